package lock

import (
	"context"
	"errors"
)

// Result is what became of a task.
type Result[T any] struct {
	// Executed reports that the task ran. If it did not and Err is nil, somebody
	// else had the lock.
	Executed bool
	// Value is what the task returned.
	Value T
	// Err is the task's error, a *PanicError, or wraps ErrLost if the lock was lost
	// meanwhile. Of a task that did not run, it is why the store gave no answer.
	Err error
	// Fence of the lock that the task ran under.
	Fence int64
}

// Outcome is how a task ended.
type Outcome string

// The outcomes.
const (
	OutcomeOK      Outcome = "ok"
	OutcomeError   Outcome = "error"   // the task returned an error
	OutcomePanic   Outcome = "panic"   // the task panicked
	OutcomeLost    Outcome = "lost"    // the lock was lost while the task ran
	OutcomeStopped Outcome = "stopped" // the process stopped, and the task with an error
)

// outcomeOf judges a task's error; stopping is the context that tells it to stop.
func outcomeOf(err error, stopping context.Context) Outcome { //nolint:revive // it is judged, not waited for
	var panicked *PanicError
	switch {
	case err == nil:
		return OutcomeOK
	case errors.As(err, &panicked):
		return OutcomePanic
	case errors.Is(err, ErrLost):
		return OutcomeLost
	case stopping.Err() != nil && errors.Is(err, context.Cause(stopping)), stopping.Err() != nil && errors.Is(err, context.Canceled):
		return OutcomeStopped
	}
	return OutcomeError
}
