package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

const (
	// An attempt group never goes back, and an empty trace leaves what there is.
	scheduleRetry = `
INSERT INTO notification_sending AS s (notification_id, next_attempt_at, attempt_group, traceparent, correlation_id, causation_id)
VALUES ($1, statement_timestamp() + $2 * interval '1 microsecond', greatest($3, 1), $4, $5, $6)
ON CONFLICT (notification_id) DO UPDATE SET
    next_attempt_at = excluded.next_attempt_at,
    claimed_until   = NULL,
    attempt_group   = greatest(s.attempt_group, excluded.attempt_group),
    traceparent     = CASE WHEN $7 THEN s.traceparent ELSE excluded.traceparent END,
    correlation_id  = CASE WHEN $7 THEN s.correlation_id ELSE excluded.correlation_id END,
    causation_id    = CASE WHEN $7 THEN s.causation_id ELSE excluded.causation_id END`

	dropRetry = `DELETE FROM notification_sending WHERE notification_id = $1`

	// statement_timestamp(), not clock_timestamp(): only a stable function can be
	// looked up in the index.
	claimRetries = `
WITH due AS (
    SELECT notification_id, coalesce(claimed_until, next_attempt_at) AS since FROM notification_sending
    WHERE coalesce(claimed_until, next_attempt_at) <= statement_timestamp()
    ORDER BY coalesce(claimed_until, next_attempt_at)
    LIMIT $1 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE notification_sending s
    SET claimed_until = statement_timestamp() + $2 * interval '1 microsecond', attempt = s.attempt + 1, fence = $3
    FROM due WHERE s.notification_id = due.notification_id
    RETURNING s.notification_id, s.attempt, s.attempt_group, s.traceparent, s.correlation_id, s.causation_id, due.since
)
SELECT t.notification_id, t.attempt, t.attempt_group, t.traceparent, t.correlation_id, t.causation_id,
    coalesce(n.status, ''), coalesce(n.recipient, ''), coalesce(n.channel, ''), coalesce(n.subject, ''), coalesce(n.body, '')
FROM taken t LEFT JOIN notification n ON n.id = t.notification_id
ORDER BY t.since, t.notification_id`

	confirmClaim = `
SELECT attempt = $2 AND claimed_until IS NOT NULL FROM notification_sending WHERE notification_id = $1 FOR UPDATE`

	releaseClaims = `
UPDATE notification_sending s
SET claimed_until = NULL, next_attempt_at = statement_timestamp() + $3 * interval '1 microsecond'
FROM unnest($1::uuid[], $2::integer[]) AS c (id, attempt)
WHERE s.notification_id = c.id AND s.attempt = c.attempt AND s.claimed_until IS NOT NULL`
)

// Claims is the schedule of further attempts of one transaction. Its times are
// the database's.
type Claims struct{ tx *sql.Tx }

// NewClaims returns the claims of tx.
func NewClaims(tx *sql.Tx) app.Claims { return &Claims{tx: tx} }

// Schedule implements app.Claims.
func (c *Claims) Schedule(ctx context.Context, id notification.ID, r app.Retry) error {
	t := r.Trace
	_, err := c.tx.ExecContext(ctx, scheduleRetry, id, r.Wait.Microseconds(), r.Group, t.Parent, t.CorrelationID, t.CausationID, t == domain.Trace{})
	if err != nil {
		return fmt.Errorf("schedule notification %s: %w", id, dberror.Map(err))
	}
	return nil
}

// Drop implements app.Claims.
func (c *Claims) Drop(ctx context.Context, id notification.ID) error {
	if _, err := c.tx.ExecContext(ctx, dropRetry, id); err != nil {
		return fmt.Errorf("forget notification %s: %w", id, dberror.Map(err))
	}
	return nil
}

// Claim implements app.Claims.
func (c *Claims) Claim(ctx context.Context, q app.ClaimQuery) ([]app.Claim, error) {
	rows, err := c.tx.QueryContext(ctx, claimRetries, q.Limit, q.Lease.Microseconds(), q.Fence)
	if err != nil {
		return nil, fmt.Errorf("claim notifications: %w", dberror.Map(err))
	}
	defer func() { _ = rows.Close() }()
	var claims []app.Claim
	for rows.Next() {
		var c app.Claim
		err := rows.Scan(&c.ID, &c.Attempt, &c.Group, &c.Trace.Parent, &c.Trace.CorrelationID, &c.Trace.CausationID,
			&c.Status, &c.Recipient, &c.Channel, &c.Subject, &c.Body)
		if err != nil {
			return nil, fmt.Errorf("claim notifications: %w", err)
		}
		claims = append(claims, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("claim notifications: %w", dberror.Map(err))
	}
	return claims, nil
}

// Confirm implements app.Claims.
func (c *Claims) Confirm(ctx context.Context, claim app.Claim) error {
	var held bool
	err := c.tx.QueryRowContext(ctx, confirmClaim, claim.ID, claim.Attempt).Scan(&held)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("confirm claim of notification %s: %w", claim.ID, dberror.Map(err))
	}
	if !held {
		return fmt.Errorf("attempt %d of notification %s: %w", claim.Attempt, claim.ID, app.ErrClaimLost)
	}
	return nil
}

// Release implements app.Claims.
func (c *Claims) Release(ctx context.Context, wait time.Duration, claims ...app.Claim) error {
	ids, attempts := make([]string, len(claims)), make([]int64, len(claims))
	for i, claim := range claims {
		ids[i], attempts[i] = string(claim.ID), int64(claim.Attempt)
	}
	if _, err := c.tx.ExecContext(ctx, releaseClaims, pq.Array(ids), pq.Array(attempts), wait.Microseconds()); err != nil {
		return fmt.Errorf("release claims: %w", dberror.Map(err))
	}
	return nil
}
