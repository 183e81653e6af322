package schedule

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-go/millrace/adapters/schedule/internal/jobdb"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// ErrNoSuchJob means that no scheduler has said that it runs the job.
var ErrNoSuchJob = errors.New("no scheduler runs the job")

// ErrAlreadyRequested means that a requested run has not begun yet.
var ErrAlreadyRequested = errors.New("a run is requested already")

// Operator reads what is known of the jobs in a database, and asks for runs. What
// it changes it writes into job_audit. For the locks see lock.Operator.
type Operator struct {
	history postgresHistory
	locks   *lock.Operator
}

// NewOperator returns an Operator on the tables that db's search_path finds. It
// does no I/O.
func NewOperator(db *sql.DB) (*Operator, error) {
	if db == nil {
		return nil, errors.New("operator of jobs: db: must not be nil")
	}
	locks, err := lock.NewOperator(db)
	if err != nil {
		return nil, err
	}
	return &Operator{history: postgresHistory{db: db}, locks: locks}, nil
}

// JobState is all that is known of a job.
type JobState struct {
	Job        string      `json:"job"`
	Definition *Definition `json:"definition,omitempty"` // nil if no scheduler has run it
	Next       time.Time   `json:"next,omitzero"`        // the next slot, by this machine's clock
	Last       *Run        `json:"last,omitempty"`       // the run that began last
	Lock       *lock.State `json:"lock,omitempty"`
}

// Jobs lists what is known of all jobs, by name.
func (o *Operator) Jobs(ctx context.Context) ([]JobState, error) {
	defs, err1 := o.definitions(ctx)
	last, err2 := o.history.runs(ctx, lastRunsSQL)
	locks, err3 := o.locks.Locks(ctx)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	byName := map[string]*JobState{}
	of := func(name string) *JobState {
		if byName[name] == nil {
			byName[name] = &JobState{Job: name}
		}
		return byName[name]
	}
	for _, d := range defs {
		j := of(d.Job)
		j.Definition, j.Next = &d, d.next(time.Now())
	}
	for _, r := range last {
		of(r.Job).Last = &r
	}
	for _, l := range locks {
		of(l.Name).Lock = &l
	}
	var all []JobState
	for _, j := range byName {
		all = append(all, *j)
	}
	slices.SortFunc(all, func(a, b JobState) int { return cmp.Compare(a.Job, b.Job) })
	return all, nil
}

// next is the definition's next slot, zero if this program cannot read it.
func (d Definition) next(now time.Time) time.Time {
	zone, err := time.LoadLocation(d.Zone)
	if err != nil {
		return time.Time{}
	}
	t, err := ParseSchedule(d.Schedule, zone)
	if err != nil {
		return time.Time{}
	}
	return t.Next(now)
}

func (o *Operator) definitions(ctx context.Context) ([]Definition, error) {
	rows, err := o.history.db.QueryContext(ctx, definitionsSQL)
	if err != nil {
		return nil, fmt.Errorf("list the jobs: %w", err)
	}
	defer rows.Close()
	var all []Definition
	for rows.Next() {
		var d Definition
		var most, least int64
		if err := rows.Scan(&d.Job, &d.Schedule, &d.Zone, &most, &least, &d.Missed, &d.Crashed, &d.Node, &d.SeenAt); err != nil {
			return nil, fmt.Errorf("list the jobs: %w", err)
		}
		d.AtMost, d.AtLeast, d.SeenAt = time.Duration(most)*time.Millisecond, time.Duration(least)*time.Millisecond, d.SeenAt.UTC()
		all = append(all, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the jobs: %w", err)
	}
	return all, nil
}

// RunFilter chooses runs. The zero value chooses the latest hundred of all jobs.
type RunFilter struct {
	Job     string    // of this job
	Outcome Outcome   // that ended, or stand, like this
	Since   time.Time // with slots from then on
	Limit   int       // at most this many, default 100
}

// Runs lists runs, the latest slot first.
func (o *Operator) Runs(ctx context.Context, f RunFilter) ([]Run, error) {
	since := sql.NullTime{Time: f.Since, Valid: !f.Since.IsZero()}
	return o.history.runs(ctx, runsSQL, f.Job, string(f.Outcome), since, cmp.Or(f.Limit, 100))
}

// Request asks the schedulers for a run of job outside of its schedule. The one
// that polls next and gets the lock runs it. Request returns the slot that the run
// has in the history.
func (o *Operator) Request(ctx context.Context, job, actor, note string) (slot time.Time, err error) {
	err = jobdb.InTx(ctx, o.history.db, func(tx *sql.Tx) error {
		var known, waiting bool
		if err := tx.QueryRowContext(ctx, requestableSQL, job).Scan(&known, &waiting); err != nil {
			return err
		}
		switch {
		case !known:
			return ErrNoSuchJob
		case waiting:
			return ErrAlreadyRequested
		}
		if err := tx.QueryRowContext(ctx, requestSQL, job, actor).Scan(&slot); err != nil {
			return err
		}
		return jobdb.Audit(ctx, tx, jobdb.Entry{Actor: actor, Action: "run", Name: job, Detail: slot.UTC().Format(time.RFC3339Nano), Note: note})
	})
	if err != nil {
		return slot, fmt.Errorf("request a run of %s: %w", job, err)
	}
	return slot.UTC(), nil
}
