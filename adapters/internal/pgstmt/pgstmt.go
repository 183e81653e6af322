// Package pgstmt has statements that can be prepared once and are used all the
// same before that: a fixed text costs two round trips, a prepared one costs one.
package pgstmt

import (
	"context"
	"database/sql"
	"sync/atomic"
)

// Statement is a fixed text, prepared or not. It is safe for concurrent use, and
// must not be copied.
type Statement struct {
	text     string
	prepared atomic.Pointer[sql.Stmt]
}

// New returns the statement text, not prepared.
func New(text string) *Statement { return &Statement{text: text} }

// Prepare prepares the statement on db. On a statement that is prepared already it
// does nothing.
func (s *Statement) Prepare(ctx context.Context, db *sql.DB) error {
	if s.prepared.Load() != nil {
		return nil
	}
	stmt, err := db.PrepareContext(ctx, s.text)
	if err != nil {
		return err
	}
	if !s.prepared.CompareAndSwap(nil, stmt) {
		return stmt.Close()
	}
	return nil
}

// Close frees what Prepare made. The statement stays usable, not prepared.
func (s *Statement) Close() error {
	if stmt := s.prepared.Swap(nil); stmt != nil {
		return stmt.Close()
	}
	return nil
}

// QueryRow runs the statement on db, the one that it was prepared on.
func (s *Statement) QueryRow(ctx context.Context, db *sql.DB, args ...any) *sql.Row {
	if stmt := s.prepared.Load(); stmt != nil {
		return stmt.QueryRowContext(ctx, args...)
	}
	return db.QueryRowContext(ctx, s.text, args...)
}

// Exec runs the statement on db, the one that it was prepared on.
func (s *Statement) Exec(ctx context.Context, db *sql.DB, args ...any) (sql.Result, error) {
	if stmt := s.prepared.Load(); stmt != nil {
		return stmt.ExecContext(ctx, args...)
	}
	return db.ExecContext(ctx, s.text, args...)
}

// QueryTx runs the statement in tx, a transaction of the database that it was
// prepared on.
func (s *Statement) QueryTx(ctx context.Context, tx *sql.Tx, args ...any) (*sql.Rows, error) {
	if stmt := s.prepared.Load(); stmt != nil {
		return tx.StmtContext(ctx, stmt).QueryContext(ctx, args...)
	}
	return tx.QueryContext(ctx, s.text, args...)
}
