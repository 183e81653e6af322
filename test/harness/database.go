package harness

import (
	"context"
	"crypto/rand"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	migrations "github.com/millrace-go/millrace/sql"
)

// Database is a Postgres database that belongs to one test.
type Database struct {
	DSN string
	DB  *sql.DB // open, closed at the end of the test
}

// NewDatabase returns a fresh database on the Postgres server that the tests of
// this run share, with the given lines of migrations applied in their order. The
// database is dropped at the end of the test. Default: sql.Outbox alone.
func NewDatabase(t testing.TB, lines ...migrations.Line) *Database {
	t.Helper()
	return newDatabase(t, sharedPostgres(t).admin, orOutbox(lines))
}

// EmptyDatabase is NewDatabase without any migration.
func EmptyDatabase(t testing.TB) *Database {
	t.Helper()
	return newDatabase(t, sharedPostgres(t).admin, nil)
}

// DatabaseOn is NewDatabase on a private server.
func DatabaseOn(t testing.TB, p *PostgresServer, lines ...migrations.Line) *Database {
	t.Helper()
	return newDatabase(t, p.admin, orOutbox(lines))
}

func orOutbox(lines []migrations.Line) []migrations.Line {
	if len(lines) == 0 {
		return []migrations.Line{migrations.Outbox}
	}
	return lines
}

func sharedPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	p, err := shared.Postgres(t.Context())
	if err != nil {
		t.Fatal("harness:", err)
	}
	return p
}

func newDatabase(t testing.TB, admin string, lines []migrations.Line) *Database {
	t.Helper()
	name := "millrace_test_" + strings.ToLower(rand.Text())
	dsn, err := withDatabase(admin, name)
	if err != nil {
		t.Fatal("harness: new database:", err)
	}
	if err := createDatabase(t.Context(), admin, name, lines); err != nil {
		t.Fatal("harness: new database:", err)
	}
	t.Cleanup(func() { dropDatabase(t, admin, name) })
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal("harness: new database:", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &Database{DSN: dsn, DB: db}
}

// dropDatabase ends the connections that are left and drops the database. A
// server that the test has killed or frozen takes its databases with it; lib/pq
// would wait forever for a frozen one.
func dropDatabase(t testing.TB, admin, name string) {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- execPostgres(ctx, admin, "DROP DATABASE IF EXISTS "+pq.QuoteIdentifier(name)+" WITH (FORCE)")
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Log("harness: drop database:", err)
		}
	case <-time.After(15 * time.Second):
		t.Log("harness: drop database: the server does not answer")
	}
}
