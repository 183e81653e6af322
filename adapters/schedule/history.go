package schedule

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// ErrSlotTaken means that a slot has been run, or is being run, and is not to be
// run again.
var ErrSlotTaken = errors.New("the slot has its run")

// History keeps one row for each slot of each job. Its methods are for those who
// implement one; others only hand one to NewScheduler. All methods are safe for
// concurrent use. An implementation passes historytest.Exercise.
type History interface {
	// Last returns the latest slot of job that was begun, the zero time if none was.
	Last(ctx context.Context, job string) (time.Time, error)
	// Outcome returns how the slot's run stands, "" if there is none.
	Outcome(ctx context.Context, job string, slot time.Time) (Outcome, error)
	// Begin makes r the slot's run. ctx is under r's lock: if that is lost, Begin
	// fails with lock.ErrLost. It fails with ErrSlotTaken if the slot has a run,
	// unless that was requested, or rerun is set and it did not end, under a lower
	// fence and for less than the third time. Other runs of the job that are open
	// under a lower fence become crashed. It returns the number of the attempt.
	Begin(ctx context.Context, r Run, rerun bool) (attempt int, err error)
	// Complete marks r as ok in tx: lock.ErrLost if it is no longer r's to end.
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

// Outcome is how a run stands or ended: one of the lock package's, or one of those
// here.
type Outcome = lock.Outcome

// Further outcomes in the history.
const (
	OutcomeRequested Outcome = "requested" // by an operator, not begun yet
	OutcomeRunning   Outcome = "running"
	OutcomeCrashed   Outcome = "crashed" // its lock went to somebody else, and it never said how it ended
)

// isOpen reports that a run with outcome o did not end.
func isOpen(o Outcome) bool {
	switch o {
	case OutcomeRunning, lock.OutcomeLost, lock.OutcomeStopped, OutcomeCrashed:
		return true
	}
	return false
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

// maxAttempts is how often a slot is begun at most.
const maxAttempts = 3

// runKey finds the run of a scheduler's job in the context of its task.
type runKey struct{}

// inRun is what a task's context carries of its run.
type inRun struct {
	history History
	run     Run
}

func runOf(ctx context.Context) *inRun {
	r, _ := ctx.Value(runKey{}).(*inRun)
	return r
}

// CurrentRun returns the run of a scheduler's job that ctx belongs to.
func CurrentRun(ctx context.Context) (Run, bool) {
	if r := runOf(ctx); r != nil {
		return r.run, true
	}
	return Run{}, false
}

// Complete marks the run of a scheduler's job as done in the transaction of its
// effect, after guarding it. If the process dies right after the commit, the slot
// is not run again, so the effect is there exactly once. It fails with
// lock.ErrLost if the run is no longer this one's. tx is of the history's database.
func Complete(ctx context.Context, tx *sql.Tx) error {
	r := runOf(ctx)
	if r == nil {
		return fmt.Errorf("complete the run: %w", lock.ErrNotLocked)
	}
	if err := lock.Guard(ctx, tx); err != nil {
		return err
	}
	return r.history.Complete(ctx, tx, r.run)
}
