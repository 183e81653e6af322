package orm

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// sessionRow is the table session.
type sessionRow struct {
	bun.BaseModel `bun:"table:session,alias:session"`

	ID         account.SessionID `bun:"id,pk"`
	Account    account.ID        `bun:"account_id,type:uuid"`
	Generation int64             `bun:"generation"`
	OpenedAt   time.Time         `bun:"opened_at"`
	ExpiresAt  time.Time         `bun:"expires_at"`
	RevokedAt  time.Time         `bun:"revoked_at,nullzero"`
	entity
}

func sessionRowOf(s account.SessionState) *sessionRow {
	return &sessionRow{
		ID: s.ID, Account: s.Account, Generation: s.Generation,
		OpenedAt: s.OpenedAt, ExpiresAt: s.ExpiresAt, RevokedAt: s.RevokedAt,
	}
}

func (r *sessionRow) state() account.SessionState {
	s := account.SessionState{
		Entity: domainEntity(r.ID, r.entity), Account: r.Account, Generation: r.Generation,
		OpenedAt: domain.Time(r.OpenedAt), ExpiresAt: domain.Time(r.ExpiresAt),
	}
	if !r.RevokedAt.IsZero() {
		s.RevokedAt = domain.Time(r.RevokedAt)
	}
	return s
}

// Sessions is the repository of one transaction.
type Sessions struct{ session }

// Add implements app.Sessions.
func (r *Sessions) Add(ctx context.Context, s *account.Session) error {
	if err := r.insert(ctx, sessionRowOf(s.State()), s.ID(), s, sessionColumns...); err != nil {
		return fmt.Errorf("add session %s: %w", s.ID(), err)
	}
	return nil
}

// Get implements app.Sessions.
func (r *Sessions) Get(ctx context.Context, id account.SessionID) (*account.Session, error) {
	var row sessionRow
	if err := r.get(ctx, &row, id, ""); err != nil {
		return nil, fmt.Errorf("get session %s: %w", id, err)
	}
	return account.SessionFromState(row.state()), nil
}

// Save implements app.Sessions.
func (r *Sessions) Save(ctx context.Context, s *account.Session) error {
	if len(s.Pending()) == 0 {
		return nil
	}
	if err := r.update(ctx, sessionRowOf(s.State()), s.ID(), s, sessionColumns...); err != nil {
		return fmt.Errorf("save session %s: %w", s.ID(), err)
	}
	return nil
}

// Sweep implements app.Sessions.
func (r *Sessions) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	over := r.db.NewSelect().Model((*sessionRow)(nil)).Column("id").
		Where("expires_at < ?", before).Order("expires_at").Limit(int64(limit)).For("UPDATE SKIP LOCKED")
	result, err := r.db.NewDelete().Model((*sessionRow)(nil)).Conn(r.tx).Where("id IN (?)", over).Exec(ctx)
	if err != nil {
		return 0, fmt.Errorf("sweep sessions: %w", dberror.Map(err))
	}
	removed, err := result.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("sweep sessions: %w", err)
	}
	return int(removed), nil
}

// sessionColumns are those that acts change.
var sessionColumns = []string{"revoked_at"}
