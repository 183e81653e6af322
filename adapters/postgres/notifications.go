package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

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

// ErrNotTheTrigger means that the row has another version than the aggregate:
// the table's trigger entity_touch is missing or not the one of the migrations.
var ErrNotTheTrigger = errors.New("version of the row is not that of the aggregate: is the trigger entity_touch in place?")

// Notifications is the repository of one transaction, in SQL.
type Notifications struct{ tx *sql.Tx }

// NewNotifications returns the repository of tx.
func NewNotifications(tx *sql.Tx) app.Notifications { return &Notifications{tx: tx} }

// Add implements app.Notifications.
func (r *Notifications) Add(ctx context.Context, n *notification.Notification) error {
	s := n.State()
	row, err := scanRow(r.tx.QueryRowContext(ctx, insertNotification, s.ID, s.Recipient, s.Channel, s.Subject, s.Body,
		s.Status, s.Attempts, s.Reason, s.RequestedAt, s.ChangedAt, nullTime(s.ReadAt)))
	if err != nil {
		return fmt.Errorf("add notification %s: %w", s.ID, mapError(err))
	}
	return r.finish(ctx, n, row)
}

// Get implements app.Notifications.
func (r *Notifications) Get(ctx context.Context, id notification.ID) (*notification.Notification, error) {
	s, err := scanNotification(r.tx.QueryRowContext(ctx, selectNotification, id))
	if err != nil {
		return nil, fmt.Errorf("get notification %s: %w", id, mapError(err))
	}
	return notification.FromState(s), nil
}

// Save implements app.Notifications.
func (r *Notifications) Save(ctx context.Context, n *notification.Notification) error {
	if len(n.Pending()) == 0 {
		return nil
	}
	row, err := r.update(ctx, n, n.Stored())
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("save notification %s: %w", n.ID(), r.whyNone(ctx, n.ID()))
	}
	if err != nil {
		return fmt.Errorf("save notification %s: %w", n.ID(), mapError(err))
	}
	return r.finish(ctx, n, row)
}

// finish writes the row until it has counted every pending event, since the
// database adds one version for each write and each event has its own.
func (r *Notifications) finish(ctx context.Context, n *notification.Notification, row stored) error {
	for expected := n.Stored() + 1; ; expected++ {
		if row.version != expected {
			return fmt.Errorf("save notification %s: %w", n.ID(), ErrNotTheTrigger)
		}
		if expected == n.Version() {
			break
		}
		var err error
		if row, err = r.update(ctx, n, expected); err != nil {
			return fmt.Errorf("save notification %s: %w", n.ID(), mapError(err))
		}
	}
	n.Settle(row.createdAt, row.updatedAt)
	return nil
}

func (r *Notifications) update(ctx context.Context, n *notification.Notification, version int64) (stored, error) {
	s := n.State()
	return scanRow(r.tx.QueryRowContext(ctx, updateNotification, s.ID, version, s.Status, s.Attempts, s.Reason, s.ChangedAt, nullTime(s.ReadAt)))
}

func (r *Notifications) whyNone(ctx context.Context, id notification.ID) error {
	var exists bool
	if err := r.tx.QueryRowContext(ctx, existsNotification, id).Scan(&exists); err != nil {
		return err
	}
	if exists {
		return domain.ErrVersionConflict
	}
	return domain.ErrNotFound
}

// stored is what the database sets on every write.
type stored struct {
	version              int64
	createdAt, updatedAt time.Time
}

func scanRow(row *sql.Row) (s stored, err error) {
	err = row.Scan(&s.version, &s.createdAt, &s.updatedAt)
	s.createdAt, s.updatedAt = domain.Time(s.createdAt), domain.Time(s.updatedAt)
	return s, err
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
