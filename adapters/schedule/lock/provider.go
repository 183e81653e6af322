package lock

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"
)

// Provider keeps locks; it is for those who implement a store of locks, and others
// only hand one to NewLocker. Time is that of its server alone. All methods are
// safe for concurrent use; an implementation passes locktest.Exercise.
type Provider interface {
	// Acquire takes the lock for r.Lease. It never waits for a holder: ErrNotAcquired
	// means that there is one. Called again with the same request it returns the same
	// grant, so it can be repeated after a reply was lost. After any other error the
	// lock may be held under the request's ID; Release frees it.
	Acquire(ctx context.Context, r Request) (Grant, error)
	// Renew makes the lock last at least for lease from now; it never shortens it.
	// ErrLost means that it is no longer held; after any other error that is not
	// known.
	Renew(ctx context.Context, g Grant, lease time.Duration) error
	// Release frees the lock, as soon as atLeast since its acquisition is over.
	// ErrLost means that there was nothing to free.
	Release(ctx context.Context, g Grant, atLeast time.Duration) error
	// Guard fails with ErrLost unless g still holds the lock, and lets no guarded
	// writes of others in between until tx ends.
	Guard(ctx context.Context, tx *sql.Tx, g Grant) error
	// Check returns an error that wraps ErrUnsafeStore if the store is set up
	// wrongly, and another one if it could not be asked.
	Check(ctx context.Context) error
}

// Request asks a Provider for a lock. ID makes its holder unique.
type Request struct {
	Name  string
	ID    uuid.UUID
	At    time.Time // informational: nothing is decided by it
	Lease time.Duration
}

// Grant is a lock that was given.
type Grant struct {
	Name  string
	Owner string // as the store has it
	Fence int64  // higher than that of every earlier grant of the name
	Lease time.Duration
}
