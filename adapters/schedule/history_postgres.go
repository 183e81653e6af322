package schedule

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/adapters/schedule/internal/jobdb"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// postgresHistory is a history in Postgres.
type postgresHistory struct{ db *sql.DB }

// NewPostgresHistory returns the history in the table job_run that db's
// search_path finds; the outbox line of package sql makes it. It does no I/O.
func NewPostgresHistory(db *sql.DB) (History, error) {
	if db == nil {
		return nil, errors.New("job history: db: must not be nil")
	}
	return &postgresHistory{db: db}, nil
}

// Last implements History.
func (h *postgresHistory) Last(ctx context.Context, job string) (time.Time, error) {
	var last sql.NullTime
	if err := h.db.QueryRowContext(ctx, lastRunSQL, job).Scan(&last); err != nil {
		return time.Time{}, fmt.Errorf("read the history of %s: %w", job, err)
	}
	return last.Time.UTC(), nil
}

// Outcome implements History.
func (h *postgresHistory) Outcome(ctx context.Context, job string, slot time.Time) (o Outcome, err error) {
	err = h.db.QueryRowContext(ctx, outcomeSQL, job, slot).Scan(&o)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read the history of %s: %w", job, err)
	}
	return o, nil
}

// Begin implements History.
func (h *postgresHistory) Begin(ctx context.Context, r Run, rerun bool) (attempt int, err error) {
	err = jobdb.InTx(ctx, h.db, func(tx *sql.Tx) error {
		if err := lock.Guard(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, crashedRunsSQL, r.Job, r.Fence, r.ScheduledAt); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, beginRunSQL, r.Job, r.ScheduledAt, r.Fence, r.Node, r.TraceID, rerun, maxAttempts).Scan(&attempt)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrSlotTaken
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("begin the run of %s: %w", r.Job, err)
	}
	return attempt, nil
}

// Complete implements History.
func (h *postgresHistory) Complete(ctx context.Context, tx *sql.Tx, r Run) error {
	n, err := affected(tx.ExecContext(ctx, finishRunSQL, r.Job, r.ScheduledAt, r.Fence, lock.OutcomeOK, ""))
	if err == nil && n == 0 {
		err = lock.ErrLost
	}
	if err != nil {
		return fmt.Errorf("complete the run of %s: %w", r.Job, err)
	}
	return nil
}

// Finish implements History.
func (h *postgresHistory) Finish(ctx context.Context, r Run, o Outcome, problem string) error {
	_, err := h.db.ExecContext(ctx, finishRunSQL, r.Job, r.ScheduledAt, r.Fence, o, jobdb.Problem(problem))
	if err != nil {
		return fmt.Errorf("end the run of %s: %w", r.Job, err)
	}
	return nil
}

// Open implements History.
func (h *postgresHistory) Open(ctx context.Context, jobs []string, since time.Time) ([]Run, error) {
	return h.runs(ctx, openRunsSQL, pq.Array(jobs), since)
}

// Define implements History.
func (h *postgresHistory) Define(ctx context.Context, defs []Definition) error {
	return jobdb.InTx(ctx, h.db, func(tx *sql.Tx) error {
		for _, d := range defs {
			_, err := tx.ExecContext(ctx, defineSQL, d.Job, d.Schedule, d.Zone, jobdb.Milliseconds(d.AtMost), jobdb.Milliseconds(d.AtLeast), d.Missed, d.Crashed, d.Node)
			if err != nil {
				return fmt.Errorf("define job %s: %w", d.Job, err)
			}
		}
		return nil
	})
}

// Forget implements History.
func (h *postgresHistory) Forget(ctx context.Context, jobs []string, before time.Time) error {
	if _, err := h.db.ExecContext(ctx, forgetRunsSQL, pq.Array(jobs), before); err != nil {
		return fmt.Errorf("forget old runs: %w", err)
	}
	return nil
}

// runs reads rows of job_run.
func (h *postgresHistory) runs(ctx context.Context, text string, args ...any) ([]Run, error) {
	rows, err := h.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer rows.Close()
	var all []Run
	for rows.Next() {
		var r Run
		var started, finished sql.NullTime
		if err := rows.Scan(&r.Job, &r.ScheduledAt, &r.Fence, &r.Node, &started, &finished, &r.Outcome, &r.Error, &r.TraceID, &r.Attempt, &r.RequestedBy); err != nil {
			return nil, fmt.Errorf("read the history: %w", err)
		}
		r.ScheduledAt = r.ScheduledAt.UTC()
		if started.Valid {
			r.StartedAt = started.Time.UTC()
		}
		if finished.Valid {
			r.FinishedAt = finished.Time.UTC()
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	return all, nil
}

func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
