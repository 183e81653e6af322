package schedule_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
)

var job = schedule.Lock{Name: "job", AtMostFor: 4 * time.Minute, AtLeastFor: 10 * time.Second}

// desk is a locker over locks in memory that a test can break, and a second
// locker, of another node.
type desk struct {
	*schedule.MemoryLocks
	locker, other *schedule.Locker

	mu      sync.Mutex
	silent  bool  // renewals get no answer
	refuse  error // what acquisitions and renewals get instead
	renewed int
	freed   []time.Duration // how long each released lock is to be kept
}

func newDesk(t *testing.T, cfg schedule.LockerConfig) *desk {
	t.Helper()
	d := &desk{MemoryLocks: schedule.NewMemoryLocks()}
	var err error
	d.locker, err = schedule.NewLocker(d, cfg)
	require.NoError(t, err)
	d.other, err = schedule.NewLocker(d.MemoryLocks, schedule.LockerConfig{})
	require.NoError(t, err)
	return d
}

func (d *desk) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *desk) Acquire(ctx context.Context, c schedule.Claim) (schedule.Grant, error) {
	g, err := d.MemoryLocks.Acquire(ctx, c)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return g, d.refuse
	}
	return g, err
}

func (d *desk) Renew(ctx context.Context, g schedule.Grant, lease time.Duration) error {
	d.mu.Lock()
	silent, refuse := d.silent, d.refuse
	d.renewed++
	d.mu.Unlock()
	if silent {
		<-ctx.Done()
		return ctx.Err()
	}
	if refuse != nil {
		return refuse
	}
	return d.MemoryLocks.Renew(ctx, g, lease)
}

func (d *desk) Release(ctx context.Context, g schedule.Grant, atLeast time.Duration) error {
	d.set(func() { d.freed = append(d.freed, atLeast) })
	return d.MemoryLocks.Release(ctx, g, atLeast)
}

// free reports whether another node gets the lock now.
func (d *desk) free() bool {
	return d.other.Do(context.Background(), job, func(context.Context) error { return nil }).Executed
}

func TestLocker_RunsTheTaskOrSkipsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, schedule.LockerConfig{})
		r := schedule.Do(t.Context(), d.locker, job, func(ctx context.Context) (int, error) {
			require.NoError(t, schedule.AssertLocked(ctx))
			require.False(t, d.free(), "another node is to be kept out")
			skipped := d.other.Do(t.Context(), job, func(context.Context) error { panic("not to be run") })
			require.Equal(t, schedule.TaskResult[struct{}]{}, skipped, "to be skipped is no error")
			return 7, nil
		})
		require.True(t, r.Executed)
		require.NoError(t, r.Err)
		require.Equal(t, 7, r.Value)
		require.Positive(t, r.Fence)
		require.Error(t, schedule.AssertLocked(t.Context()))
	})
}

func TestLocker_AtLeastForHoldsHoweverTheTaskEnds(t *testing.T) {
	t.Parallel()
	for name, task := range map[string]func(context.Context) error{
		"success":              func(context.Context) error { return nil },
		"error":                func(context.Context) error { return errors.New("no") },
		"panic":                func(context.Context) error { panic("no") },
		"end of its goroutine": func(context.Context) error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, schedule.LockerConfig{})
				done := make(chan struct{})
				go func() {
					defer close(done)
					d.locker.Do(t.Context(), job, task)
				}()
				<-done
				time.Sleep(10*time.Second - time.Nanosecond)
				require.False(t, d.free())
				time.Sleep(time.Nanosecond)
				require.True(t, d.free())
			})
		})
	}
}

func TestLocker_PanicIsAnErrorWithItsStackAndFreesTheLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, schedule.LockerConfig{})
		cause := errors.New("cause")
		var outcome schedule.Outcome
		locker, err := schedule.NewLocker(d, schedule.LockerConfig{Hooks: schedule.Hooks{
			Finished: func(_ schedule.Grant, o schedule.Outcome, _ time.Duration, _ error) { outcome = o },
		}})
		require.NoError(t, err)
		r := locker.Do(t.Context(), job, func(context.Context) error { panic(cause) })
		require.True(t, r.Executed)
		var p *schedule.PanicError
		require.ErrorAs(t, r.Err, &p)
		require.ErrorIs(t, r.Err, cause)
		require.Contains(t, string(p.Stack), "TestLocker_PanicIsAnError")
		require.Equal(t, schedule.OutcomePanic, outcome)
		time.Sleep(job.AtLeastFor)
		require.True(t, d.free())
	})
}

func TestLocker_KeepsTheLockAliveUntilLockAtMostFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, schedule.LockerConfig{})
		began := time.Now()
		r := d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			for ctx.Err() == nil {
				require.False(t, d.free(), "after %s", time.Since(began))
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
			require.ErrorIs(t, context.Cause(ctx), schedule.ErrLockLost)
			require.ErrorContains(t, context.Cause(ctx), "LockAtMostFor, 4m0s")
			require.ErrorIs(t, schedule.AssertLocked(ctx), schedule.ErrLockLost)
			require.ErrorIs(t, schedule.Guard(ctx, nil), schedule.ErrLockLost)
			return ctx.Err()
		})
		require.ErrorIs(t, r.Err, schedule.ErrLockLost)
		require.InDelta(t, job.AtMostFor.Seconds(), time.Since(began).Seconds(), 1)
		require.Less(t, time.Since(began), job.AtMostFor)
		require.GreaterOrEqual(t, d.renewed, 23, "each third of 30 s")
		time.Sleep(time.Second)
		require.True(t, d.free())
	})
}

func TestLocker_CancelsTheTaskBeforeItsLeaseIsOverWhenRenewalsGetNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost error
		d := newDesk(t, schedule.LockerConfig{Hooks: schedule.Hooks{Lost: func(_ schedule.Grant, err error) { lost = err }}})
		d.silent = true
		began := time.Now()
		r := d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			<-ctx.Done()
			require.False(t, d.free(), "the store still keeps others out when the task is told")
			require.ErrorIs(t, context.Cause(ctx), schedule.ErrLockLost)
			return nil
		})
		require.ErrorIs(t, r.Err, schedule.ErrLockLost, "although the task says all is well")
		require.ErrorIs(t, lost, schedule.ErrLockLost)
		require.InDelta(t, 29.7, time.Since(began).Seconds(), 0.1)
	})
}

func TestLocker_CancelsTheTaskAtOnceWhenARenewalIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, schedule.LockerConfig{})
		d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			began := time.Now()
			d.set(func() { d.refuse = schedule.ErrLockLost })
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), schedule.ErrLockLost)
			require.Equal(t, 10*time.Second, time.Since(began))
			return nil
		})
		require.Equal(t, 1, d.renewed)
	})
}

func TestLocker_TriesARenewalAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, schedule.LockerConfig{})
		r := d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			d.set(func() { d.refuse = errors.New("down") })
			time.Sleep(25 * time.Second) // 10, 11, 12 …
			d.set(func() { d.refuse = nil })
			time.Sleep(time.Minute)
			return ctx.Err()
		})
		require.NoError(t, r.Err)
		require.Equal(t, []time.Duration{job.AtLeastFor}, d.freed)
	})
}

// The first lease is never shorter than LockAtLeastFor, and no renewal shortens
// it: a crash right after the start keeps the least time.
func TestTrap_2_20_LeastTimeHoldsAlsoAfterACrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		locks := &recorded{LockProvider: schedule.NewMemoryLocks()}
		locker, err := schedule.NewLocker(locks, schedule.LockerConfig{Lease: 5 * time.Second})
		require.NoError(t, err)
		lock := schedule.Lock{Name: "job", AtMostFor: 12 * time.Hour, AtLeastFor: time.Minute}
		locker.Do(t.Context(), lock, func(context.Context) error {
			time.Sleep(5 * time.Minute)
			return nil
		})
		require.Equal(t, time.Minute, locks.first, "not 5 s: a crash would free it too early; not 12 h: a crash would hold it up")
		require.NotEmpty(t, locks.leases)
		for _, lease := range locks.leases {
			require.GreaterOrEqual(t, lease, time.Minute)
		}
	})
}

type recorded struct {
	schedule.LockProvider
	first  time.Duration
	leases []time.Duration
}

func (r *recorded) Acquire(ctx context.Context, c schedule.Claim) (schedule.Grant, error) {
	r.first = c.Lease
	return r.LockProvider.Acquire(ctx, c)
}

func (r *recorded) Renew(ctx context.Context, g schedule.Grant, lease time.Duration) error {
	r.leases = append(r.leases, lease)
	return r.LockProvider.Renew(ctx, g, lease)
}

func TestLocker_WithoutKeepAliveTakesTheWholeTimeAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, schedule.LockerConfig{NoKeepAlive: true})
		began := time.Now()
		d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), schedule.ErrLockLost)
			return nil
		})
		require.Zero(t, d.renewed)
		require.InDelta(t, 240*.99, time.Since(began).Seconds(), 0.1)
	})
}

func TestLocker_SkipsTheTaskWhenTheStoreDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		var failed error
		d := newDesk(t, schedule.LockerConfig{Hooks: schedule.Hooks{Failed: func(_ string, err error) { failed = err }}})
		d.refuse = down
		r := d.locker.Do(t.Context(), job, func(context.Context) error { panic("not to be run") })
		require.False(t, r.Executed)
		require.ErrorIs(t, r.Err, down)
		require.ErrorIs(t, failed, down)
		require.Equal(t, []time.Duration{0}, d.freed, "the answer was lost, not the question: the lock is given back")
		require.True(t, d.free())
	})
}

func TestExtend_SetsNewLimitsFromNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, schedule.LockerConfig{})
		var ended time.Time
		d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			time.Sleep(3 * time.Minute)
			require.NoError(t, schedule.Extend(ctx, 10*time.Minute, 20*time.Second))
			time.Sleep(9 * time.Minute)
			require.NoError(t, ctx.Err())
			require.False(t, d.free())
			require.NoError(t, schedule.Extend(ctx, 5*time.Minute, 20*time.Second))
			require.ErrorContains(t, schedule.Extend(ctx, time.Second, time.Minute), "at least for")
			ended = time.Now()
			return nil
		})
		time.Sleep(time.Until(ended.Add(20*time.Second - 1)))
		require.False(t, d.free(), "the new least time counts from the extension")
		time.Sleep(time.Millisecond)
		require.True(t, d.free())
		require.ErrorIs(t, schedule.Extend(t.Context(), time.Minute, 0), schedule.ErrNotLocked)
	})
}

func TestExtend_FailsOnceTheLockIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, schedule.LockerConfig{})
		d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			d.set(func() { d.refuse = schedule.ErrLockLost })
			require.ErrorIs(t, schedule.Extend(ctx, time.Hour, 0), schedule.ErrLockLost)
			<-ctx.Done()
			require.ErrorIs(t, schedule.Extend(ctx, time.Hour, 0), schedule.ErrLockLost)
			return nil
		})
	})
}

func TestLocker_TheLockIsKnownInTheTasksGoroutinesAndNotAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, schedule.LockerConfig{})
		var task context.Context
		r := d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			task = ctx
			inside := make(chan error, 1)
			go func() { inside <- schedule.AssertLocked(context.WithoutCancel(ctx)) }()
			fence, ok := schedule.Fence(ctx)
			require.True(t, ok)
			require.Positive(t, fence)
			again := d.locker.Do(ctx, job, func(ctx context.Context) error { return schedule.AssertLocked(ctx) })
			require.True(t, again.Executed, "under the same lock it simply runs")
			require.Equal(t, fence, again.Fence)
			time.Sleep(time.Second)
			apart := d.other.Do(ctx, schedule.Lock{Name: "apart", AtMostFor: time.Minute}, func(ctx context.Context) error {
				f, _ := schedule.Fence(ctx)
				require.Greater(t, f, fence, "the innermost")
				return nil
			})
			require.True(t, apart.Executed)
			return <-inside
		})
		require.NoError(t, r.Err)
		require.ErrorIs(t, schedule.AssertLocked(task), schedule.ErrNotLocked)
		require.ErrorIs(t, schedule.Guard(task, nil), schedule.ErrNotLocked)
	})
}

func TestAssumeLocked_LetsATaskBeTestedAlone(t *testing.T) {
	t.Parallel()
	ctx := schedule.AssumeLocked(t.Context(), "job")
	require.NoError(t, schedule.AssertLocked(ctx))
	require.NoError(t, schedule.Guard(ctx, nil))
	require.NoError(t, schedule.Extend(ctx, time.Minute, 0))
	d := newDesk(t, schedule.LockerConfig{})
	require.True(t, d.locker.Do(ctx, job, schedule.AssertLocked).Executed)
}

func TestLock_ReportsEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	err := schedule.Lock{Name: "a b", AtLeastFor: -1}.Validate()
	for _, part := range []string{`"a b"`, "at most for: must be at least 1ms", "at least for: must not be negative"} {
		require.ErrorContains(t, err, part)
	}
	require.ErrorContains(t, schedule.Lock{Name: "a", AtMostFor: time.Second, AtLeastFor: time.Minute}.Validate(), "longer than at most for")
	require.NoError(t, schedule.Lock{Name: "a", AtMostFor: time.Second, AtLeastFor: time.Second}.Validate())
	_, err = schedule.NewLocker(nil, schedule.LockerConfig{Lease: -1, Timeout: -1})
	for _, part := range []string{"locks: is nil", "Lease: must be at least 10ms", "Timeout: must be positive"} {
		require.ErrorContains(t, err, part)
	}
}
