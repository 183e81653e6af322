package schedule

import (
	"context"
	"errors"
)

// TaskResult is what became of a task.
type TaskResult[T any] struct {
	// Executed tells that the task ran. If it did not and Err is nil, somebody else
	// had the lock.
	Executed bool
	// Value is what the task returned.
	Value T
	// Err is the task's error, a *PanicError, or wraps ErrLockLost if the lock was
	// lost meanwhile; of a task that did not run, why the store gave no answer.
	Err error
	// Fence of the lock that the task ran under.
	Fence int64
}

// Outcome is how a run ended.
type Outcome string

// The outcomes. A scheduler writes them into the history, where further there
// are OutcomeRequested, OutcomeRunning and OutcomeCrashed.
const (
	OutcomeOK      Outcome = "ok"
	OutcomeError   Outcome = "error"   // the task returned an error
	OutcomePanic   Outcome = "panic"   // the task panicked
	OutcomeLost    Outcome = "lost"    // the lock was lost while the task ran
	OutcomeStopped Outcome = "stopped" // the process stopped, and the task with an error

	OutcomeRequested Outcome = "requested" // by an operator, not begun yet
	OutcomeRunning   Outcome = "running"
	OutcomeCrashed   Outcome = "crashed" // its lock went to somebody else, and it never said how it ended
)

// outcome judges a task's error; stopping is the context that tells it to stop.
func outcome(err error, stopping context.Context) Outcome {
	var panicked *PanicError
	switch {
	case err == nil:
		return OutcomeOK
	case errors.As(err, &panicked):
		return OutcomePanic
	case errors.Is(err, ErrLockLost):
		return OutcomeLost
	case stopping.Err() != nil && errors.Is(err, context.Cause(stopping)), stopping.Err() != nil && errors.Is(err, context.Canceled):
		return OutcomeStopped
	}
	return OutcomeError
}
