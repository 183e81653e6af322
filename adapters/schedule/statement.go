package schedule

import (
	"context"
	"database/sql"
	"sync/atomic"
)

// statement is a fixed text that may have been prepared.
type statement struct {
	text     string
	prepared atomic.Pointer[sql.Stmt]
}

func (s *statement) prepare(ctx context.Context, db *sql.DB) error {
	stmt, err := db.PrepareContext(ctx, s.text)
	if err != nil {
		return err
	}
	if old := s.prepared.Swap(stmt); old != nil {
		return old.Close()
	}
	return nil
}

func (s *statement) close() error {
	if stmt := s.prepared.Swap(nil); stmt != nil {
		return stmt.Close()
	}
	return nil
}

func (s *statement) queryRow(ctx context.Context, db *sql.DB, args ...any) *sql.Row {
	if stmt := s.prepared.Load(); stmt != nil {
		return stmt.QueryRowContext(ctx, args...)
	}
	return db.QueryRowContext(ctx, s.text, args...)
}

func (s *statement) exec(ctx context.Context, db *sql.DB, args ...any) (sql.Result, error) {
	if stmt := s.prepared.Load(); stmt != nil {
		return stmt.ExecContext(ctx, args...)
	}
	return db.ExecContext(ctx, s.text, args...)
}
