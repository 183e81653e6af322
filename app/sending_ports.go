package app

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// Gateway hands notifications to the service that delivers them.
type Gateway interface {
	// Send delivers d. An error that is ErrRejected is final for this content.
	// ErrNotNow, ErrUnavailable and ErrKeySpent say that nothing was delivered, and
	// when or how to try again. After any other the outcome is unknown, and sending
	// again with the same idempotency key delivers at most once.
	Send(ctx context.Context, d Delivery) error
}

var (
	// ErrRejected is the gateway's verdict that it will never take a delivery.
	ErrRejected = errors.New("rejected by the gateway")
	// ErrNotNow means that the gateway asks to try this one again later.
	ErrNotNow = errors.New("gateway asks to wait")
	// ErrUnavailable means that nothing can be handed to the gateway now, whatever
	// it is.
	ErrUnavailable = errors.New("gateway unavailable")
	// ErrKeySpent means that the gateway remembers a failure under this
	// idempotency key and answers with it forever: try again with another key.
	ErrKeySpent = errors.New("gateway remembers a failure under this key")
)

// RetryAfter is how long the gateway asked to be left alone, or 0: what the
// method RetryAfter of an error in err's chain returns.
func RetryAfter(err error) time.Duration {
	var asked interface{ RetryAfter() time.Duration }
	if errors.As(err, &asked) {
		return asked.RetryAfter()
	}
	return 0
}

// Delivery is one attempt to deliver a notification.
type Delivery struct {
	IdempotencyKey string
	NotificationID notification.ID
	// Attempt counts the attempts of a notification from 1. Those that ended
	// without anybody knowing how are counted too.
	Attempt int
	notification.Content
}

// Claims keeps which failed notifications are to be tried again, when, and who is
// at it. It belongs to a unit of work. Times are those of the storage, so that
// the clocks of several nodes need not agree. Package apptest has the suite that
// every implementation passes.
type Claims interface {
	// Schedule lets a notification be claimed once r.Wait is over. It ends the
	// claim that there may be.
	Schedule(ctx context.Context, id notification.ID, r Retry) error
	// Drop forgets a notification: nothing more is to be tried. It is not an error if
	// there is nothing to forget.
	Drop(ctx context.Context, id notification.ID) error
	// Claim claims up to q.Limit notifications whose wait, or whose former claim,
	// is over, the longest waiting first. It passes over those that another unit
	// of work is claiming or settling, so that two never get the same claim.
	Claim(ctx context.Context, q ClaimQuery) ([]Claim, error)
	// Confirm returns nil if c is still the latest claim of its notification and
	// not settled, and keeps it so until the unit of work ends; ErrClaimLost if not.
	// A claim whose time is over but that nobody else took is still good.
	Confirm(ctx context.Context, c Claim) error
	// Release gives back those of the claims that Confirm would accept: they can be
	// claimed again once wait is over.
	Release(ctx context.Context, wait time.Duration, claims ...Claim) error
}

// ErrClaimLost means that somebody else has claimed or settled the notification.
var ErrClaimLost = errors.New("claim was lost to somebody else")

// Retry says how a failed notification is to be tried again.
type Retry struct {
	Wait time.Duration
	// Group is the attempt group of the next attempt, which makes its idempotency
	// key. A group never goes back; 0 leaves it as it is, which is 1 at first.
	Group int
	// Trace is what the next attempt goes on with. An empty one leaves what there is.
	Trace domain.Trace
}

// ClaimQuery asks for claims.
type ClaimQuery struct {
	Limit int
	// Lease is how long a claim lasts: after it, anybody may claim again.
	Lease time.Duration
	// Fence is noted on each claim: the fencing token of the lock under which the
	// job runs, or 0.
	Fence int64
}

// Claim is the right to make one attempt.
type Claim struct {
	ID notification.ID
	// Attempt is the number of the attempt, and tells the claims of a notification
	// apart.
	Attempt int
	Group   int
	Trace   domain.Trace
	// Status is that of the notification, requested if it was put off before its
	// first attempt; empty if there is none of this id.
	Status notification.Status
	notification.Content
}

// Tracer carries traces over the wait for the next attempt; package telemetry has
// one.
type Tracer interface {
	// Continue returns a context with a child span of the trace in the W3C header;
	// a header that is empty or malformed starts a new trace.
	Continue(ctx context.Context, traceparent string) context.Context
	// Traceparent is the header for what ctx causes; empty without a trace.
	Traceparent(ctx context.Context) string
}
