package schedule

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrSlotTaken means that a slot has been run, or is being run, and is not to be
// run again.
var ErrSlotTaken = errors.New("the slot has its run")

// History keeps one row for each slot of each job. All methods are safe for
// concurrent use. An implementation passes locktest.ExerciseHistory.
type History interface {
	// Last returns the latest slot of job that was begun, the zero time if none was.
	Last(ctx context.Context, job string) (time.Time, error)
	// Look returns how the slot's run stands, "" if there is none.
	Look(ctx context.Context, job string, slot time.Time) (Outcome, error)
	// Begin makes r the slot's run. ctx is under r's lock: if that is lost, Begin
	// fails with ErrLockLost. It fails with ErrSlotTaken if the slot has a run,
	// unless that was requested, or rerun is set and it did not end, under a lower
	// fence and for less than the third time. Other runs of the job that are open
	// under a lower fence become crashed. It returns the number of the attempt.
	Begin(ctx context.Context, r Run, rerun bool) (attempt int, err error)
	// Complete marks r as ok in tx: ErrLockLost if it is no longer r's to end.
	Complete(ctx context.Context, tx *sql.Tx, r Run) error
	// Finish writes how r ended, unless Complete has or somebody else has taken it.
	Finish(ctx context.Context, r Run, o Outcome, problem string) error
	// Open lists slots of jobs, after since, that were requested or did not end.
	Open(ctx context.Context, jobs []string, since time.Time) ([]Run, error)
	// Define makes known what a scheduler runs.
	Define(ctx context.Context, defs []Definition) error
	// Forget drops the runs of jobs with slots before t.
	Forget(ctx context.Context, jobs []string, before time.Time) error
}

// Run is one run of a job. Times are zero while they are not known.
type Run struct {
	Job         string    `json:"job"`
	ScheduledAt time.Time `json:"scheduled_at"` // the slot
	Fence       int64     `json:"fence"`
	Node        string    `json:"node"`
	StartedAt   time.Time `json:"started_at,omitzero"`
	FinishedAt  time.Time `json:"finished_at,omitzero"`
	Outcome     Outcome   `json:"outcome"`
	Error       string    `json:"error,omitempty"`
	TraceID     string    `json:"trace_id,omitempty"`
	Attempt     int       `json:"attempt"`
	RequestedBy string    `json:"requested_by,omitempty"` // an operator, instead of the schedule
}

// Definition is what a scheduler says of a job.
type Definition struct {
	Job      string        `json:"job"`
	Schedule string        `json:"schedule"`
	Zone     string        `json:"zone"`
	AtMost   time.Duration `json:"-"`
	AtLeast  time.Duration `json:"-"`
	Missed   MissedPolicy  `json:"missed"`
	Crashed  CrashedPolicy `json:"crashed"`
	Node     string        `json:"node"`             // that said so last
	SeenAt   time.Time     `json:"seen_at,omitzero"` // when
}

// mostAttempts is how often a slot is begun at most.
const mostAttempts = 3

// open reports that a run with this outcome did not end.
func (o Outcome) open() bool {
	switch o {
	case OutcomeRunning, OutcomeLost, OutcomeStopped, OutcomeCrashed:
		return true
	}
	return false
}

// slot is what a task's context carries of its run.
type slot struct {
	history History
	run     Run
}

// withSlot returns a context whose innermost lock belongs to the run.
func withSlot(ctx context.Context, s *slot) context.Context {
	in := *scopeOf(ctx)
	in.slot = s
	return context.WithValue(ctx, heldKey{}, &in)
}

func slotOf(ctx context.Context) *slot {
	for s := scopeOf(ctx); s != nil; s = s.outer {
		if s.slot != nil {
			return s.slot
		}
	}
	return nil
}

// CurrentRun returns the run of a scheduler's job that ctx belongs to.
func CurrentRun(ctx context.Context) (Run, bool) {
	if s := slotOf(ctx); s != nil {
		return s.run, true
	}
	return Run{}, false
}

// Complete marks the run of a scheduler's job as done in the transaction of its
// effect, after guarding it. If the process dies right after the commit, the slot
// is not run again, so the effect is there exactly once. It fails with
// ErrLockLost if the run is no longer this one's. tx is of the history's database.
func Complete(ctx context.Context, tx *sql.Tx) error {
	s := slotOf(ctx)
	if s == nil {
		return fmt.Errorf("complete the run: %w", ErrNotLocked)
	}
	if err := Guard(ctx, tx); err != nil {
		return err
	}
	return s.history.Complete(ctx, tx, s.run)
}
