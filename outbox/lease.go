package outbox

import (
	"context"
	"time"
)

// leasePolicy decides when a relay tries for its lease and when it gives it up. A
// relay of its own has aloneOnLease; in a fleet the policy is its fleetMember.
type leasePolicy interface {
	// await returns when the relay should try for the lease, or when ctx ends.
	await(ctx context.Context)
	// acquired is given the outcome of the attempt.
	acquired(err error)
	// renew renews the lease. It reports whether the leadership should be handed
	// over to another instance now.
	renew(ctx context.Context, session Session, ttl time.Duration) (handOver bool, err error)
	// ended follows the end of a leadership.
	ended(ctx context.Context)
}

// aloneOnLease tries for the lease whenever it is free and keeps what it has.
type aloneOnLease struct{}

func (aloneOnLease) await(context.Context) {}
func (aloneOnLease) acquired(error)        {}
func (aloneOnLease) ended(context.Context) {}
func (aloneOnLease) renew(ctx context.Context, session Session, ttl time.Duration) (bool, error) {
	return false, session.Renew(ctx, ttl)
}
