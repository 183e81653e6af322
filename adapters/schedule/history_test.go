package schedule_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/historytest"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/test/harness"
)

func TestPostgresHistory_KeepsToTheSuite(t *testing.T) {
	t.Parallel()
	historytest.Exercise(t, func(t *testing.T) historytest.Histories {
		db := harness.NewDatabase(t)
		return historytest.Histories{History: postgresHistory(t, db.DB), Locks: postgresLocks(t, db), Request: func(t *testing.T, job string) time.Time {
			operator, err := schedule.NewOperator(db.DB)
			require.NoError(t, err)
			slot, err := operator.Request(t.Context(), job, "ada@host", "")
			require.NoError(t, err)
			_, err = operator.Request(t.Context(), job, "ada@host", "")
			require.ErrorIs(t, err, schedule.ErrAlreadyRequested)
			return slot
		}}
	})
}

func TestMemoryHistory_KeepsToTheSuite(t *testing.T) {
	t.Parallel()
	historytest.Exercise(t, func(*testing.T) historytest.Histories {
		history := schedule.NewMemoryHistory()
		return historytest.Histories{History: history, Locks: lock.NewMemory(), Request: func(_ *testing.T, job string) time.Time {
			return history.Request(job, "ada@host").ScheduledAt
		}}
	})
}

func postgresHistory(t *testing.T, db *sql.DB) schedule.History {
	t.Helper()
	history, err := schedule.NewPostgresHistory(db)
	require.NoError(t, err)
	return history
}

// The end of the run and the effect are one transaction: if the process dies after
// its commit the slot is not run again, if before it is.
func TestComplete_EndsTheRunWithTheEffect(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	_, err := db.DB.Exec(`CREATE TABLE effect (slot timestamptz, fence bigint)`)
	require.NoError(t, err)
	locker, err := lock.NewLocker(postgresLocks(t, db), lock.Config{})
	require.NoError(t, err)
	failed := errors.New("after the commit")
	commits := 0
	scheduler, err := schedule.NewScheduler(locker, postgresHistory(t, db.DB), []schedule.Job{{
		Name: "j", Schedule: "100ms", Crashed: schedule.CrashedRerun,
		Run: func(ctx context.Context) error {
			run, _ := schedule.CurrentRun(ctx)
			tx, err := db.DB.BeginTx(ctx, nil)
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }()
			require.NoError(t, schedule.Complete(ctx, tx))
			_, err = tx.ExecContext(ctx, `INSERT INTO effect VALUES ($1, $2)`, run.ScheduledAt, run.Fence)
			require.NoError(t, err)
			require.ErrorIs(t, schedule.Complete(ctx, tx), lock.ErrLost, "it is over")
			if commits++; commits == 1 {
				return nil // rolled back, and yet ok: the task knows what it does
			}
			require.NoError(t, tx.Commit())
			return failed
		},
	}}, schedule.SchedulerConfig{})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- scheduler.Run(ctx) }()
	harness.Await(t, 2*time.Minute, "five effects", func(ctx context.Context) error {
		var n int
		if err := db.DB.QueryRowContext(ctx, `SELECT count(*) FROM effect`).Scan(&n); err != nil || n < 5 {
			return errors.Join(err, errors.New("not yet"))
		}
		return nil
	})
	stop()
	require.NoError(t, <-done)
	var wrong int
	require.NoError(t, db.DB.QueryRow(`SELECT count(*) FROM effect e LEFT JOIN job_run r ON r.scheduled_at = e.slot
		WHERE r.outcome IS DISTINCT FROM 'ok' OR r.fence <> e.fence OR r.error <> ''`).Scan(&wrong))
	require.Zero(t, wrong, "what the task says after the commit does not change how the run ended")
	require.ErrorIs(t, schedule.Complete(t.Context(), nil), lock.ErrNotLocked)
}
