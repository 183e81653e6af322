package jobmetrics_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/telemetry/jobmetrics"
)

// unreliable are locks that a test can break.
type unreliable struct {
	lock.Provider
	silent, down atomic.Bool // no answer to renewals; no locks
}

func (u *unreliable) Acquire(ctx context.Context, r lock.Request) (lock.Grant, error) {
	if u.down.Load() {
		return lock.Grant{}, errors.New("down")
	}
	return u.Provider.Acquire(ctx, r)
}

func (u *unreliable) Renew(ctx context.Context, g lock.Grant, lease time.Duration) error {
	if u.silent.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return u.Provider.Renew(ctx, g, lease)
}

func TestMetrics_CountWhatHappensToLocksAndTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		m, err := jobmetrics.New(reg)
		require.NoError(t, err)
		locks := &unreliable{Provider: lock.NewMemory()}
		locker, err := lock.NewLocker(locks, lock.Config{Hooks: m.Hooks()})
		require.NoError(t, err)
		job := lock.Lock{Name: "job", AtMostFor: 4 * time.Minute, AtLeastFor: 10 * time.Second}
		active := func(want string) {
			require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(
				"# HELP job_execution_active Tasks at work.\n# TYPE job_execution_active gauge\njob_execution_active{lock_name=\"job\"} "+want+"\n"), "job_execution_active"))
		}
		do := func(task func(context.Context) error) { locker.Do(t.Context(), job, task) }
		do(func(context.Context) error {
			active("1")
			locker.Do(context.Background(), job, func(context.Context) error { return nil })
			return nil
		})
		active("0")
		time.Sleep(time.Minute)
		do(func(context.Context) error { return errors.New("no") })
		time.Sleep(time.Minute)
		do(func(ctx context.Context) error {
			locks.silent.Store(true)
			<-ctx.Done()
			return ctx.Err()
		})
		time.Sleep(time.Minute)
		locks.down.Store(true)
		do(func(context.Context) error { panic("not to be run") })

		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP job_lock_acquired_total Times it was given.
# TYPE job_lock_acquired_total counter
job_lock_acquired_total{lock_name="job"} 3
# HELP job_lock_attempts_total Times a lock was asked for.
# TYPE job_lock_attempts_total counter
job_lock_attempts_total{lock_name="job"} 5
# HELP job_lock_errors_total Times the store of the locks did not answer, or granted nothing after a flush; the job was skipped.
# TYPE job_lock_errors_total counter
job_lock_errors_total{lock_name="job"} 1
# HELP job_lock_lost_total Times a task was cancelled because its lock was lost or might have been.
# TYPE job_lock_lost_total counter
job_lock_lost_total{lock_name="job"} 1
# HELP job_lock_not_acquired_total Times somebody else had it.
# TYPE job_lock_not_acquired_total counter
job_lock_not_acquired_total{lock_name="job"} 1
# HELP job_last_success_timestamp_seconds When a task last ended well in this process.
# TYPE job_last_success_timestamp_seconds gauge
job_last_success_timestamp_seconds{lock_name="job"} 9.466848e+08
`), "job_lock_acquired_total", "job_lock_attempts_total", "job_lock_errors_total", "job_lock_lost_total", "job_lock_not_acquired_total", "job_last_success_timestamp_seconds"))
		n, err := testutil.GatherAndCount(reg, "job_execution_seconds")
		require.NoError(t, err)
		require.Equal(t, 3, n, "ok, error, lost")

		_, err = jobmetrics.New(reg)
		require.ErrorContains(t, err, "job metrics")
		_, err = jobmetrics.New(nil)
		require.ErrorContains(t, err, "must not be nil")
	})
}
