package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"
)

// statement is a fixed text, prepared or not.
type statement struct {
	text     string
	prepared atomic.Pointer[sql.Stmt]
}

func (s *statement) prepare(ctx context.Context, db *sql.DB) error {
	if s.prepared.Load() != nil {
		return nil
	}
	stmt, err := db.PrepareContext(ctx, s.text)
	if err != nil {
		return fmt.Errorf("prepare the inbox: %w", err)
	}
	if !s.prepared.CompareAndSwap(nil, stmt) {
		return stmt.Close()
	}
	return nil
}

func (s *statement) close() error {
	if stmt := s.prepared.Swap(nil); stmt != nil {
		return stmt.Close()
	}
	return nil
}

func (s *statement) query(ctx context.Context, tx *sql.Tx, args ...any) (*sql.Rows, error) {
	if stmt := s.prepared.Load(); stmt != nil {
		return tx.StmtContext(ctx, stmt).QueryContext(ctx, args...)
	}
	return tx.QueryContext(ctx, s.text, args...)
}
