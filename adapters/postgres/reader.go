package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

const selectStatusOf = `
SELECT id, version, recipient, channel, subject, status, attempts, reason, requested_at, changed_at
FROM notification WHERE id = $1`

// Reader answers from the database, each question in a statement of its own. It
// never writes. It is safe for concurrent use.
type Reader struct{ db *sql.DB }

var _ app.Reader = (*Reader)(nil)

// NewReader returns a reader on db.
func NewReader(db *sql.DB) *Reader { return &Reader{db: db} }

// NotificationStatus implements app.Reader.
func (r *Reader) NotificationStatus(ctx context.Context, id notification.ID) (app.NotificationStatus, error) {
	var s app.NotificationStatus
	err := r.db.QueryRowContext(ctx, selectStatusOf, id).Scan(&s.ID, &s.Version, &s.Recipient, &s.Channel, &s.Subject,
		&s.Status, &s.Attempts, &s.Reason, &s.RequestedAt, &s.ChangedAt)
	if err != nil {
		return app.NotificationStatus{}, fmt.Errorf("read notification %s: %w", id, mapError(err))
	}
	s.RequestedAt, s.ChangedAt = domain.Time(s.RequestedAt), domain.Time(s.ChangedAt)
	return s, nil
}
