package schedule

import (
	"errors"
	"fmt"
	"time"
)

// ErrNotAcquired means that somebody else has the lock. A skipped task is no
// error: only a LockProvider returns it.
var ErrNotAcquired = errors.New("the lock is held elsewhere")

// ErrLockLost is the cause with which a task's context is cancelled when its lock
// is lost, or may be: a renewal was refused or did not come through in time, or
// LockAtMostFor is over. Guard returns it, wrapped, when somebody else has the
// lock.
var ErrLockLost = errors.New("the lock is lost")

// ErrNotLocked means that the context belongs to no task under a lock, or to one
// that has ended.
var ErrNotLocked = errors.New("not under a lock")

// ErrUnsafeStore means that the store of the locks is set up so that it may
// forget them. It is returned, wrapped, by Check and by Scheduler.Run.
var ErrUnsafeStore = errors.New("the store of the locks is not safe")

// WaitError means that a store grants no locks for a while, because it may have
// forgotten some that are still held. It wraps ErrNotAcquired.
type WaitError struct{ For time.Duration }

func (e *WaitError) Error() string {
	return fmt.Sprintf("redis is new or was emptied: no locks for another %s", e.For)
}

// Unwrap returns ErrNotAcquired.
func (e *WaitError) Unwrap() error { return ErrNotAcquired }

// PanicError is the error of a task that panicked.
type PanicError struct {
	Value any    // what it panicked with
	Stack []byte // where
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
