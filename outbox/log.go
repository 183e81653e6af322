package outbox

import (
	"context"
	"time"
)

// Log is what a relay reads: the interface between it and the store of the messages.
// Package outboxtest has the suite that every implementation passes.
type Log interface {
	// Acquire takes the lease of the named relay for owner and returns the
	// session of the new leader, or ErrLeaseHeld while another owner's lease
	// runs. An owner that already holds the lease gets it again with a higher
	// epoch. The lease is timed by the log's own clock.
	Acquire(ctx context.Context, relay, owner string, ttl time.Duration) (Session, error)
}

// Session is one leadership of one relay. Read is called by one goroutine;
// Save, Renew and Release may run beside it.
//
// After any error, other than ErrLeaseLost from Save or Renew, and after a cancelled
// context, the caller must release the session and acquire a new one: the session no
// longer knows the state of the log for certain.
type Session interface {
	// Epoch rises with every leadership of the relay.
	Epoch() int64
	// Parked lists the keys that had parked messages when the session began.
	Parked() []ParkedKey
	// Read returns entries that were committed and not yet returned, at most limit
	// rows and about maxBytes bytes of payload, but at least one entry if there is
	// one. Entries of one key come in commit order. It does not wait: an empty batch
	// means that there is nothing to deliver now.
	Read(ctx context.Context, limit, maxBytes int) (Batch, error)
	// Save makes cp durable in one step. If a later epoch has begun, it changes
	// nothing and returns ErrLeaseLost.
	Save(ctx context.Context, cp Checkpoint) error
	// Renew extends the lease by ttl from now, or returns ErrLeaseLost. It returns
	// ErrReopen if it extended the lease and the session must be replaced.
	Renew(ctx context.Context, ttl time.Duration) error
	// Release frees the lease if the session still holds it and closes the
	// session's connections. The session is unusable afterwards.
	Release(ctx context.Context) error
}

// Batch is the result of one read.
type Batch struct {
	Entries []Entry
	// Cursor is what to save when every entry of this batch and of the batches
	// before it has been delivered.
	Cursor Cursor
	// More reports that the read was cut short: more entries are waiting.
	More bool
	// Moved reports that Cursor differs from that of the batch before.
	Moved bool
}

// Maintainer is implemented by sessions of logs that need upkeep, such as creating
// partitions ahead of need. The leader calls Maintain at its start and each minute.
// It reports an error and calls again.
type Maintainer interface {
	Maintain(ctx context.Context) error
}

// Checkpoint is what a leader makes durable: all at once or not at all.
type Checkpoint struct {
	Cursor Cursor
	// Parked are messages that the cursor counts as delivered although the
	// broker did not take them.
	Parked []Parked
}

// Parked is a message that the broker will never take as it is, or that waits
// behind such a message of its key.
type Parked struct {
	Position int64
	ParkedKey
	// Reason is the broker's or the publisher's, or ReasonBehind.
	Reason string
}

// ParkedKey names the messages that wait together.
type ParkedKey struct{ Topic, Key string }

// ReasonBehind is the reason of a message that waits behind a parked one.
const ReasonBehind = "waits behind a parked message of its key"
