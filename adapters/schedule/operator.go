package schedule

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// ErrNoSuchLock means that nobody holds the lock that was to be freed.
var ErrNoSuchLock = errors.New("nobody holds the lock")

// ErrNoSuchJob means that no scheduler has said that it runs the job.
var ErrNoSuchJob = errors.New("no scheduler runs the job")

// ErrAlreadyRequested means that a requested run has not begun yet.
var ErrAlreadyRequested = errors.New("a run is requested already")

// Operator looks at the jobs in a database, and intervenes. What it changes it
// writes into job_audit.
type Operator struct{ history PostgresHistory }

// NewOperator returns an Operator on the tables that db's search_path finds. It
// does no I/O.
func NewOperator(db *sql.DB) (*Operator, error) {
	if db == nil {
		return nil, errors.New("jobs: db: is nil")
	}
	return &Operator{history: PostgresHistory{db: db}}, nil
}

// LockState is a lock as its store has it: a row of shedlock, or a key in Redis.
type LockState struct {
	Name  string        `json:"name"`
	Held  bool          `json:"held"`
	Owner string        `json:"owner"`          // that holds it, or held it last
	Since time.Time     `json:"since,omitzero"` // in Redis by the clock of the holder
	Until time.Time     `json:"until,omitzero"` // by the clock of the server; zero if it never ends
	Left  time.Duration `json:"-"`              // by the clock of the server; negative if it is free
	Fence int64         `json:"fence"`          // in Redis that of the last holder that was no node of ShedLock's own

	Store       string `json:"store"`                 // StorePostgres or StoreRedis
	Environment string `json:"environment,omitempty"` // in Redis only
	Key         string `json:"key,omitempty"`         // in Redis only
}

// JobState is all that is known of a job.
type JobState struct {
	Job        string      `json:"job"`
	Definition *Definition `json:"definition,omitempty"` // nil if no scheduler told
	Next       time.Time   `json:"next,omitzero"`        // the next slot, by this machine's clock
	Last       *Run        `json:"last,omitempty"`       // the run that began last
	Lock       *LockState  `json:"lock,omitempty"`
}

// Locks lists all locks, by name.
func (o *Operator) Locks(ctx context.Context) ([]LockState, error) {
	rows, err := o.history.db.QueryContext(ctx, locksSQL)
	if err != nil {
		return nil, fmt.Errorf("list the locks: %w", err)
	}
	defer rows.Close()
	var all []LockState
	for rows.Next() {
		l := LockState{Store: StorePostgres}
		var left int64
		if err := rows.Scan(&l.Name, &l.Owner, &l.Since, &l.Until, &left, &l.Fence); err != nil {
			return nil, fmt.Errorf("list the locks: %w", err)
		}
		l.Since, l.Until, l.Left = l.Since.UTC(), l.Until.UTC(), time.Duration(left)*time.Microsecond
		l.Held = left > 0
		all = append(all, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the locks: %w", err)
	}
	return all, nil
}

// Jobs lists what is known of all jobs, by name.
func (o *Operator) Jobs(ctx context.Context) ([]JobState, error) {
	defs, err1 := o.definitions(ctx)
	last, err2 := o.history.runs(ctx, lastRunsSQL)
	locks, err3 := o.Locks(ctx)
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
	Limit   int       // most runs, default 100
}

// Runs lists runs, the latest slot first.
func (o *Operator) Runs(ctx context.Context, f RunFilter) ([]Run, error) {
	def(&f.Limit, 100)
	return o.history.runs(ctx, runsSQL, f.Job, string(f.Outcome), sql.NullTime{Time: f.Since, Valid: !f.Since.IsZero()}, f.Limit)
}

// Request asks the schedulers for a run of job outside of its schedule. Whoever
// of them polls next and gets the lock runs it. It returns the slot that the run
// has in the history.
func (o *Operator) Request(ctx context.Context, job, actor, note string) (slot time.Time, err error) {
	err = o.history.transaction(ctx, func(tx *sql.Tx) error {
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
		_, err := tx.ExecContext(ctx, auditSQL, actor, "run", job, slot.UTC().Format(time.RFC3339Nano), storable(note))
		return err
	})
	if err != nil {
		return slot, fmt.Errorf("request a run of %s: %w", job, err)
	}
	return slot.UTC(), nil
}

// Unlock takes the lock away from whoever holds it and frees it. Its task is
// cancelled at the next renewal, and its guarded writes are refused from now on;
// what it does without a guard goes on meanwhile beside the next holder. It
// returns the lock as it was.
func (o *Operator) Unlock(ctx context.Context, name, actor, note string) (was LockState, err error) {
	err = o.history.transaction(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, patienceSQL); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, heldLockSQL, name).Scan(&was.Name, &was.Owner, &was.Since, &was.Until, &was.Fence)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoSuchLock
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, unlockSQL, name, cut("unlocked by "+actor, 255)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, auditSQL, actor, "unlock", name, fmt.Sprintf("held by %s, fence %d", was.Owner, was.Fence), storable(note))
		return err
	})
	if pq.As(err, pqerror.LockNotAvailable) != nil {
		err = errors.New("its holder has a guarded transaction open: try again")
	}
	if err != nil {
		return was, fmt.Errorf("unlock %s: %w", name, err)
	}
	was.Held, was.Store, was.Since, was.Until = true, StorePostgres, was.Since.UTC(), was.Until.UTC()
	return was, nil
}

func cut(text string, n int) string { return text[:min(len(text), n)] }
