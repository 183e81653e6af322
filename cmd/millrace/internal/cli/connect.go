package cli

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/doctor"
)

// dialTimeout bounds the first contact of a one-shot command with a server.
const dialTimeout = 5 * time.Second

// openPostgres returns a pool on dsn. It does not dial.
func openPostgres(dsn string) (*sql.DB, error) {
	connector, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, usageError{fmt.Errorf("postgres: the driver refuses the address: give postgres://user@host:5432/db")}
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(8)
	return db, nil
}

// reachPostgres is openPostgres and a first contact.
func reachPostgres(ctx context.Context, dsn string) (*sql.DB, error) {
	db, err := openPostgres(dsn)
	if err != nil {
		return nil, err
	}
	if err := pingPostgres(ctx, db, dsn); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// pingPostgres explains a failure: which server, and what to do.
func pingPostgres(ctx context.Context, db *sql.DB, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		return unreachable(dsn, err)
	}
	return nil
}

// unreachable explains why the first contact with the server of dsn went wrong.
func unreachable(dsn string, err error) error {
	what, fix := doctor.Unreachable(err)
	return fmt.Errorf("postgres at %s %s: %w: %s", postgresHost(dsn), what, err, fix)
}

// postgresHost is the address in dsn without user, password and options.
func postgresHost(dsn string) string {
	if u, err := url.Parse(dsn); err == nil && u.Host != "" {
		return u.Host
	}
	host := "localhost"
	for _, field := range strings.Fields(config.Redact(dsn)) {
		if name, v, ok := strings.Cut(field, "="); ok && name == "host" {
			host = v
		}
	}
	return host
}
