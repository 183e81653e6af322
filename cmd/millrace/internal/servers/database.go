package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	"github.com/google/uuid"
)

// ownDatabase makes a database in the given server and points the set at it.
func (s *Set) ownDatabase(ctx context.Context) error {
	u, err := url.Parse(s.Postgres)
	if err != nil || u.Host == "" {
		return errors.New("postgres: give the address as postgres://user@host:5432/db")
	}
	admin := s.Postgres
	name := "millrace_" + uuid.NewString()[:8]
	if err := execute(ctx, admin, "CREATE DATABASE "+name); err != nil {
		return fmt.Errorf("postgres at %s: make a database for the run: %w: give a user that may, or leave the address out", u.Host, err)
	}
	s.stops = append(s.stops, func(ctx context.Context) error {
		return execute(ctx, admin, "DROP DATABASE "+name+" WITH (FORCE)")
	})
	u.Path = "/" + name
	s.Postgres = u.String()
	return nil
}

func execute(ctx context.Context, dsn, statement string) error {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}
