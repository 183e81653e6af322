package harness

import (
	"context"
	"crypto/rand"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"
)

// Database is a Postgres database that belongs to one test.
type Database struct {
	DSN string
	DB  *sql.DB // open, closed at the end of the test
}

// NewDatabase returns a fresh database with both lines of migrations applied, on
// the Postgres server that the tests of this run share. It is dropped at the end
// of the test.
func NewDatabase(t testing.TB) *Database {
	t.Helper()
	return newDatabase(t, sharedPostgres(t).admin, true)
}

// EmptyDatabase is NewDatabase without any migration.
func EmptyDatabase(t testing.TB) *Database {
	t.Helper()
	return newDatabase(t, sharedPostgres(t).admin, false)
}

// DatabaseOn is NewDatabase on a server of the test's own.
func DatabaseOn(t testing.TB, p *PostgresServer) *Database {
	t.Helper()
	return newDatabase(t, p.admin, true)
}

func sharedPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	p, err := shared.Postgres(t.Context())
	if err != nil {
		t.Fatal("harness:", err)
	}
	return p
}

func newDatabase(t testing.TB, admin string, migrated bool) *Database {
	t.Helper()
	name := "millrace_test_" + strings.ToLower(rand.Text())
	dsn, err := withDatabase(admin, name)
	if err != nil {
		t.Fatal("harness: new database:", err)
	}
	if err := createDatabase(t.Context(), admin, name, migrated); err != nil {
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
// would wait for a frozen one for ever.
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
