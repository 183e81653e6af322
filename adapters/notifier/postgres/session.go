package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

const (
	insertSession = `
INSERT INTO session (id, account_id, generation, opened_at, expires_at, revoked_at)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING version, created_at, updated_at`

	updateSession = `
UPDATE session SET revoked_at = $3
WHERE id = $1 AND version = $2
RETURNING version, created_at, updated_at`

	selectSession = `
SELECT id, account_id, generation, opened_at, expires_at, revoked_at, version, created_at, updated_at
FROM session WHERE id = $1`

	existsSession = `SELECT EXISTS (SELECT FROM session WHERE id = $1)`

	sweepSessions = `
DELETE FROM session WHERE id IN (
    SELECT id FROM session WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

// Sessions is the repository of one transaction, in SQL.
type Sessions struct{ tx *sql.Tx }

// NewSessions returns the repository of tx.
func NewSessions(tx *sql.Tx) app.Sessions { return &Sessions{tx: tx} }

// Add implements app.Sessions.
func (r *Sessions) Add(ctx context.Context, s *account.Session) error {
	state := s.State()
	row, err := scanRow(r.tx.QueryRowContext(ctx, insertSession, state.ID, state.Account, state.Generation,
		state.OpenedAt, state.ExpiresAt, nullTime(state.RevokedAt)))
	if err := added(s, row, err, r.update(ctx, state)); err != nil {
		return fmt.Errorf("add session %s: %w", state.ID, err)
	}
	return nil
}

// Get implements app.Sessions.
func (r *Sessions) Get(ctx context.Context, id account.SessionID) (*account.Session, error) {
	s, err := scanSession(r.tx.QueryRowContext(ctx, selectSession, id))
	if err != nil {
		return nil, fmt.Errorf("get session %s: %w", id, dberror.Map(err))
	}
	return account.SessionFromState(s), nil
}

// Save implements app.Sessions.
func (r *Sessions) Save(ctx context.Context, s *account.Session) error {
	if err := save(ctx, r.tx, s, existsSession, s.ID(), r.update(ctx, s.State())); err != nil {
		return fmt.Errorf("save session %s: %w", s.ID(), err)
	}
	return nil
}

// Sweep implements app.Sessions.
func (r *Sessions) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	result, err := r.tx.ExecContext(ctx, sweepSessions, before, limit)
	if err != nil {
		return 0, fmt.Errorf("sweep sessions: %w", dberror.Map(err))
	}
	removed, err := result.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("sweep sessions: %w", err)
	}
	return int(removed), nil
}

func (r *Sessions) update(ctx context.Context, s account.SessionState) write {
	return func(version int64) (stored, error) {
		return scanRow(r.tx.QueryRowContext(ctx, updateSession, s.ID, version, nullTime(s.RevokedAt)))
	}
}

func scanSession(row *sql.Row) (s account.SessionState, err error) {
	var revoked sql.NullTime
	err = row.Scan(&s.ID, &s.Account, &s.Generation, &s.OpenedAt, &s.ExpiresAt, &revoked, &s.Version, &s.CreatedAt, &s.UpdatedAt)
	for _, t := range []*time.Time{&s.OpenedAt, &s.ExpiresAt, &s.CreatedAt, &s.UpdatedAt} {
		*t = domain.Time(*t)
	}
	if revoked.Valid {
		s.RevokedAt = domain.Time(revoked.Time)
	}
	return s, err
}

func nullTime(t time.Time) sql.NullTime { return sql.NullTime{Time: t, Valid: !t.IsZero()} }
