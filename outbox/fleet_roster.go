package outbox

import (
	"context"
	"time"
)

// Roster is implemented by logs on which the instances of a fleet find each
// other. Without it the instances still stand in for each other, and whoever
// comes first leads.
type Roster interface {
	// Announce says that me stands ready for relay, for ttl from now on the log's
	// clock, and tells who else does and who holds the lease.
	Announce(ctx context.Context, relay string, me Instance, ttl time.Duration) (Roll, error)
	// Leave takes an instance off the roster before its time is over.
	Leave(ctx context.Context, relay, instance string) error
	// Call wakes the instances that wait for the lease, if their doorbells work.
	Call(ctx context.Context, relay string) error
}

// RosterSession is implemented by sessions of such logs.
type RosterSession interface {
	// RenewPresent is Session.Renew and Roster.Announce in one step. The roll is
	// also valid if the error is ErrReopen.
	RenewPresent(ctx context.Context, ttl time.Duration, me Instance) (Roll, error)
}

// Checker is implemented by logs that can tell whether they can be read safely,
// with an *UnsafeError if not. A fleet asks before it announces itself, so that
// nothing is handed over to an instance that could not lead.
type Checker interface {
	Check(ctx context.Context) error
}

// Instance is one process of a fleet.
type Instance struct {
	ID    string
	Leads int // how many outboxes it leads
}

// Roll is what a roster holds at one moment.
type Roll struct {
	Others []Instance    // those that stand ready beside the one that asks
	Owner  string        // who holds the lease; empty if it is free
	Left   time.Duration // how long the lease still lasts
}
