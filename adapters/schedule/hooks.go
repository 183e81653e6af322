package schedule

import "time"

// Hooks tell what happens to locks and runs, for logs and metrics. Each may be
// nil, is called from the goroutine of the task or of its keep-alive, and must
// return at once.
type Hooks struct {
	// Attempt: a lock is about to be asked for.
	Attempt func(name string)
	// Acquired: it was given.
	Acquired func(g Grant)
	// NotAcquired: somebody else has it.
	NotAcquired func(name string)
	// Failed: the store did not answer; the task was skipped.
	Failed func(name string, err error)
	// Lost: the task's context was cancelled, as its lock is lost or may be.
	Lost func(g Grant, err error)
	// Extended: the task asked for more time, and has it.
	Extended func(g Grant, atMost time.Duration)
	// Started: the task begins.
	Started func(g Grant)
	// Finished: the task has ended, and its lock was freed, or lapses.
	Finished func(g Grant, outcome Outcome, took time.Duration, err error)
	// NotReleased: the lock could not be freed, and lapses by itself.
	NotReleased func(g Grant, err error)
	// Slot: a scheduler has dealt with a slot; the run of it has ended, if there
	// was one here.
	Slot func(job string, scheduledAt time.Time, v Verdict, err error)
}

func call[A any](hook func(A), a A) {
	if hook != nil {
		hook(a)
	}
}

func call2[A, B any](hook func(A, B), a A, b B) {
	if hook != nil {
		hook(a, b)
	}
}
