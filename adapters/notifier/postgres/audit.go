package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
)

const insertAudit = `
INSERT INTO notification_audit (event_id, event_type, notification_id, version, recipient, status, attempts, reason, occurred_at, traceparent, correlation_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

// Audit writes an event of a notification down, in tx, and what the notification
// was after it; other events are passed over. It does not look whether it has the
// event already: that is the inbox's.
func Audit(ctx context.Context, tx *sql.Tx, r domain.Recorded) error {
	s, ok := app.ProjectStatus(r)
	if !ok {
		return nil
	}
	_, err := tx.ExecContext(ctx, insertAudit, r.ID, r.Event.EventName(), s.ID, s.Version, s.Recipient, s.Status, s.Attempts, s.Reason,
		r.OccurredAt, r.Trace.Parent, r.Trace.CorrelationID)
	if err != nil {
		return fmt.Errorf("audit event %s: %w", r.ID, dberror.Map(err))
	}
	return nil
}
