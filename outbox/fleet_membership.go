package outbox

import (
	"context"
	"time"
)

// Membership is implemented by logs on which the instances of a fleet find each
// other. Without it the instances still stand in for each other, but the first one
// to take a lease keeps it.
type Membership interface {
	// Announce enters me in the member list of relay for ttl from now on, by the
	// log's clock. It returns the other members and who holds the lease.
	Announce(ctx context.Context, relay string, me Member, ttl time.Duration) (Members, error)
	// Leave removes an instance from the member list before its time is over.
	Leave(ctx context.Context, relay, instance string) error
	// NotifyStandbys wakes the instances that wait for the lease, if their Listeners
	// work.
	NotifyStandbys(ctx context.Context, relay string) error
}

// MemberSession is implemented by sessions of such logs.
type MemberSession interface {
	// RenewMember is Session.Renew and Membership.Announce in one step. The members
	// are also valid if the error is ErrReopen.
	RenewMember(ctx context.Context, ttl time.Duration, me Member) (Members, error)
}

// Checker is implemented by logs that can report whether they can be read safely,
// with an *UnsafeError if not. A fleet asks before it announces itself, so that no
// outbox is handed over to an instance that could not lead it.
type Checker interface {
	Check(ctx context.Context) error
}

// Member is one process of a fleet.
type Member struct {
	ID    string
	Leads int // how many outboxes it leads
}

// Members is a member list at one moment.
type Members struct {
	Others []Member      // the members without the one that asks
	Owner  string        // who holds the lease; empty if it is free
	Left   time.Duration // how long the lease still lasts
}
