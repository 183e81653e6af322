package lock

import (
	"errors"
	"fmt"
)

var (
	// ErrLost is the cause with which a task's context is cancelled when its lock is
	// lost, or may be: a renewal was refused or did not come through in time, or
	// AtMostFor is over. Guard returns it, wrapped, when somebody else has the lock.
	ErrLost = errors.New("the lock is lost")

	// ErrNotLocked means that the context belongs to no task under a lock, or to a
	// task that has ended.
	ErrNotLocked = errors.New("not under a lock")

	// ErrNotAcquired means that somebody else has the lock. Only a Provider returns
	// it: to be skipped is not an error of a task.
	ErrNotAcquired = errors.New("the lock is held elsewhere")

	// ErrStoreIsNew means that a store grants no locks for a while, because it may
	// have forgotten some that are still held. A Provider returns it together with
	// ErrNotAcquired.
	ErrStoreIsNew = errors.New("the store of the locks is new or was emptied")

	// ErrUnsafeStore means that the store of the locks is set up so that it may
	// forget them. Check returns it, wrapped.
	ErrUnsafeStore = errors.New("the store of the locks is not safe")

	// ErrNoSuchLock means that nobody holds the lock that was to be freed.
	ErrNoSuchLock = errors.New("nobody holds the lock")

	// errGoexit is the result of a task that never returned.
	errGoexit = errors.New("the task ended its goroutine")
)

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
