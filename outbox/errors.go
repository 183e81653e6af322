package outbox

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrInvalidMessage is wrapped by every MessageError.
	ErrInvalidMessage = errors.New("invalid message")
	// ErrTxDone means that the transaction was already committed or rolled back.
	ErrTxDone = errors.New("transaction has already ended")
	// ErrLeaseHeld means that another owner's lease on the relay still runs.
	ErrLeaseHeld = errors.New("lease is held by another relay")
	// ErrLeaseLost means that a later epoch has begun: this leader must stop.
	ErrLeaseLost = errors.New("lease lost")
	// ErrReopen is returned by Renew when it renewed the lease and the session must be
	// replaced: an operator has decided something that only the next session takes
	// into account. End this one gracefully and acquire another.
	ErrReopen = errors.New("session must be reopened")
	// ErrClosed is returned by Subscribe after Close.
	ErrClosed = errors.New("outbox subscriber is closed")
	// ErrUnpublishable is wrapped by every UnpublishableError.
	ErrUnpublishable = errors.New("unpublishable message")
)

// MessageError refuses a message before any I/O; the transaction is untouched.
type MessageError struct {
	Index  int    // which of the messages given to Append
	Field  string // "topic", "key", "headers[foo]", "payload", …
	Reason string // what is wrong and what is allowed
}

func (e *MessageError) Error() string {
	return fmt.Sprintf("message %d: %s %s", e.Index, e.Field, e.Reason)
}

// Unwrap makes errors.Is(err, ErrInvalidMessage) hold.
func (e *MessageError) Unwrap() error { return ErrInvalidMessage }

// UnpublishableError is a publisher's statement that the broker will never take the
// message as it is: the relay parks it. Any other error means that the broker could
// not be reached or asked to try again.
type UnpublishableError struct {
	Reason string // short and stable: "message too large", "unknown topic", …
	Err    error  // the cause, may be nil
}

// Unpublishable marks err as permanent: retrying cannot help.
func Unpublishable(reason string, err error) error {
	return &UnpublishableError{Reason: reason, Err: err}
}

func (e *UnpublishableError) Error() string {
	if e.Err == nil {
		return e.Reason
	}
	return e.Reason + ": " + e.Err.Error()
}

// Unwrap returns the sentinel and the cause.
func (e *UnpublishableError) Unwrap() []error { return []error{ErrUnpublishable, e.Err} }

// ErrUnsafeLog is wrapped by every UnsafeError.
var ErrUnsafeLog = errors.New("outbox log is not safe to read")

// UnsafeError lists everything about a log that would make reading it lose or
// reorder messages, each with what to do. An operator must fix it.
type UnsafeError struct{ Problems []string }

func (e *UnsafeError) Error() string {
	return ErrUnsafeLog.Error() + ": " + strings.Join(e.Problems, "; ")
}

// Unwrap makes errors.Is(err, ErrUnsafeLog) hold.
func (e *UnsafeError) Unwrap() error { return ErrUnsafeLog }
