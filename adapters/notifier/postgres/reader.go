package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

const (
	statusColumns = `id, version, recipient, channel, subject, status, attempts, reason, requested_at, changed_at, read_at`

	selectStatusOf = `SELECT ` + statusColumns + ` FROM notification WHERE id = $1`

	selectNewestOf = `SELECT ` + statusColumns + ` FROM notification WHERE recipient = $1
ORDER BY requested_at DESC, id DESC LIMIT $2`
)

// Reader answers from the database, each question in a statement of its own. It
// never writes. It is safe for concurrent use.
type Reader struct{ db *sql.DB }

var _ app.Reader = (*Reader)(nil)

// NewReader returns a reader on db.
func NewReader(db *sql.DB) *Reader { return &Reader{db: db} }

// NotificationStatus implements app.Reader.
func (r *Reader) NotificationStatus(ctx context.Context, id notification.ID) (app.NotificationStatus, error) {
	s, err := scanStatus(r.db.QueryRowContext(ctx, selectStatusOf, id))
	if err != nil {
		return app.NotificationStatus{}, fmt.Errorf("read notification %s: %w", id, dberror.Map(err))
	}
	return s, nil
}

// RecipientNotifications implements app.Reader.
func (r *Reader) RecipientNotifications(ctx context.Context, recipient string, limit int) ([]app.NotificationStatus, error) {
	rows, err := r.db.QueryContext(ctx, selectNewestOf, recipient, limit)
	if err != nil {
		return nil, fmt.Errorf("read notifications of a recipient: %w", dberror.Map(err))
	}
	defer func() { _ = rows.Close() }()
	var list []app.NotificationStatus
	for rows.Next() {
		s, err := scanStatus(rows)
		if err != nil {
			return nil, fmt.Errorf("read notifications of a recipient: %w", err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read notifications of a recipient: %w", dberror.Map(err))
	}
	return list, nil
}

func scanStatus(row interface{ Scan(...any) error }) (s app.NotificationStatus, err error) {
	var read sql.NullTime
	err = row.Scan(&s.ID, &s.Version, &s.Recipient, &s.Channel, &s.Subject, &s.Status, &s.Attempts, &s.Reason,
		&s.RequestedAt, &s.ChangedAt, &read)
	s.RequestedAt, s.ChangedAt = domain.Time(s.RequestedAt), domain.Time(s.ChangedAt)
	if read.Valid {
		s.ReadAt = domain.Time(read.Time)
	}
	return s, err
}
