package schedule

import (
	"context"
	"database/sql"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// LockProvider keeps locks. Time is that of its server alone. All methods are
// safe for concurrent use; an implementation passes locktest.Exercise.
type LockProvider interface {
	// Acquire takes the lock for claim.Lease. It never waits for a holder:
	// ErrNotAcquired tells that there is one. Called again with the same claim it
	// returns the same grant, so a lost reply can be asked for again. After any
	// other error the lock may be held by the claim; Release frees it.
	Acquire(ctx context.Context, claim Claim) (Grant, error)
	// Renew makes the lock last at least for lease from now; it never shortens.
	// ErrLockLost means that it is no longer held; after any other error that is
	// not known.
	Renew(ctx context.Context, g Grant, lease time.Duration) error
	// Release frees the lock, as soon as atLeast since its acquisition is over.
	// ErrLockLost means that there was nothing to free.
	Release(ctx context.Context, g Grant, atLeast time.Duration) error
	// Guard fails with ErrLockLost unless g still holds the lock, and lets nobody
	// else's guarded writes in between until tx ends.
	Guard(ctx context.Context, tx *sql.Tx, g Grant) error
}

// Checker is a LockProvider whose store can be set up wrongly. Check returns an
// error that wraps ErrUnsafeStore if it is, and another one if it could not look.
type Checker interface {
	Check(ctx context.Context) error
}

// Claim asks for a lock. ID makes its holder unique.
type Claim struct {
	Name  string
	ID    uuid.UUID
	At    time.Time // for the eyes of people only
	Lease time.Duration
}

// Grant is a lock that was given.
type Grant struct {
	Name  string
	Owner string // as the store has it
	Fence int64  // higher than that of every earlier grant of the name
	Lease time.Duration
}

// NewClaim is a claim of a new holder, as of now.
func NewClaim(name string, lease time.Duration) Claim {
	return Claim{Name: name, ID: uuid.New(), At: time.Now(), Lease: lease}
}

// host names this machine in owners and in the history.
func host() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "unknown"
	}
	return name
}

// idle is for how long a guarded transaction may do nothing before the database
// ends it: a lease, since its holder may be frozen, in reasonable limits.
func (g Grant) idle() string {
	return strconv.FormatInt(milliseconds(min(max(g.Lease, 2*time.Second), 30*time.Second)), 10)
}
