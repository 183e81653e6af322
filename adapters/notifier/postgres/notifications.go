package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

const (
	insertNotification = `
INSERT INTO notification (id, recipient, channel, subject, body, status, attempts, reason, requested_at, changed_at, read_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
RETURNING version, created_at, updated_at`

	updateNotification = `
UPDATE notification SET status = $3, attempts = $4, reason = $5, changed_at = $6, read_at = $7
WHERE id = $1 AND version = $2
RETURNING version, created_at, updated_at`

	selectNotification = `
SELECT id, recipient, channel, subject, body, status, attempts, reason, requested_at, changed_at, read_at, version, created_at, updated_at
FROM notification WHERE id = $1`

	existsNotification = `SELECT EXISTS (SELECT FROM notification WHERE id = $1)`
)

// Notifications is the repository of one transaction, in SQL.
type Notifications struct{ tx *sql.Tx }

// NewNotifications returns the repository of tx.
func NewNotifications(tx *sql.Tx) app.Notifications { return &Notifications{tx: tx} }

// Add implements app.Notifications.
func (r *Notifications) Add(ctx context.Context, n *notification.Notification) error {
	s := n.State()
	row, err := scanRow(r.tx.QueryRowContext(ctx, insertNotification, s.ID, s.Recipient, s.Channel, s.Subject, s.Body,
		s.Status, s.Attempts, s.Reason, s.RequestedAt, s.ChangedAt, nullTime(s.ReadAt)))
	if err := added(n, row, err, r.update(ctx, s)); err != nil {
		return fmt.Errorf("add notification %s: %w", s.ID, err)
	}
	return nil
}

// Get implements app.Notifications.
func (r *Notifications) Get(ctx context.Context, id notification.ID) (*notification.Notification, error) {
	s, err := scanNotification(r.tx.QueryRowContext(ctx, selectNotification, id))
	if err != nil {
		return nil, fmt.Errorf("get notification %s: %w", id, dberror.Map(err))
	}
	return notification.FromState(s), nil
}

// Save implements app.Notifications.
func (r *Notifications) Save(ctx context.Context, n *notification.Notification) error {
	if err := save(ctx, r.tx, n, existsNotification, n.ID(), r.update(ctx, n.State())); err != nil {
		return fmt.Errorf("save notification %s: %w", n.ID(), err)
	}
	return nil
}

func (r *Notifications) update(ctx context.Context, s notification.State) write {
	return func(version int64) (stored, error) {
		return scanRow(r.tx.QueryRowContext(ctx, updateNotification, s.ID, version, s.Status, s.Attempts, s.Reason, s.ChangedAt, nullTime(s.ReadAt)))
	}
}

func scanNotification(row *sql.Row) (s notification.State, err error) {
	var read sql.NullTime
	err = row.Scan(&s.ID, &s.Recipient, &s.Channel, &s.Subject, &s.Body, &s.Status, &s.Attempts, &s.Reason,
		&s.RequestedAt, &s.ChangedAt, &read, &s.Version, &s.CreatedAt, &s.UpdatedAt)
	for _, t := range []*time.Time{&s.RequestedAt, &s.ChangedAt, &s.CreatedAt, &s.UpdatedAt} {
		*t = domain.Time(*t)
	}
	if read.Valid {
		s.ReadAt = domain.Time(read.Time)
	}
	return s, err
}
