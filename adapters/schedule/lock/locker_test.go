package lock_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

var job = lock.Lock{Name: "job", AtMostFor: 4 * time.Minute, AtLeastFor: 10 * time.Second}

// desk is a locker over locks in memory that a test can break, and a second
// locker, of another node.
type desk struct {
	lock.Provider
	locker, other *lock.Locker

	mu      sync.Mutex
	silent  bool  // renewals get no answer
	refuse  error // what acquisitions and renewals get instead
	renewed int
	freed   []time.Duration // how long each released lock is to be kept
}

func newDesk(t *testing.T, cfg lock.Config) *desk {
	t.Helper()
	d := &desk{Provider: lock.NewMemory()}
	var err error
	d.locker, err = lock.NewLocker(d, cfg)
	require.NoError(t, err)
	d.other, err = lock.NewLocker(d.Provider, lock.Config{})
	require.NoError(t, err)
	return d
}

func (d *desk) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *desk) Acquire(ctx context.Context, c lock.Request) (lock.Grant, error) {
	g, err := d.Provider.Acquire(ctx, c)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return g, d.refuse
	}
	return g, err
}

func (d *desk) Renew(ctx context.Context, g lock.Grant, lease time.Duration) error {
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
	return d.Provider.Renew(ctx, g, lease)
}

func (d *desk) Release(ctx context.Context, g lock.Grant, atLeast time.Duration) error {
	d.set(func() { d.freed = append(d.freed, atLeast) })
	return d.Provider.Release(ctx, g, atLeast)
}

// free reports whether another node gets the lock now.
func (d *desk) free() bool {
	return d.other.Do(context.Background(), job, func(context.Context) error { return nil }).Executed
}

func TestLocker_RunsTheTaskOrSkipsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, lock.Config{})
		r := lock.Do(t.Context(), d.locker, job, func(ctx context.Context) (int, error) {
			require.NoError(t, lock.Assert(ctx))
			require.False(t, d.free(), "another node is to be kept out")
			skipped := d.other.Do(t.Context(), job, func(context.Context) error { panic("not to be run") })
			require.Equal(t, lock.Result[struct{}]{}, skipped, "to be skipped is no error")
			return 7, nil
		})
		require.True(t, r.Executed)
		require.NoError(t, r.Err)
		require.Equal(t, 7, r.Value)
		require.Positive(t, r.Fence)
		require.Error(t, lock.Assert(t.Context()))
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
				d := newDesk(t, lock.Config{})
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
		d := newDesk(t, lock.Config{})
		cause := errors.New("cause")
		var outcome lock.Outcome
		locker, err := lock.NewLocker(d, lock.Config{Hooks: lock.Hooks{
			Finished: func(f lock.Finish) { outcome = f.Outcome },
		}})
		require.NoError(t, err)
		r := locker.Do(t.Context(), job, func(context.Context) error { panic(cause) })
		require.True(t, r.Executed)
		var p *lock.PanicError
		require.ErrorAs(t, r.Err, &p)
		require.ErrorIs(t, r.Err, cause)
		require.Contains(t, string(p.Stack), "TestLocker_PanicIsAnError")
		require.Equal(t, lock.OutcomePanic, outcome)
		time.Sleep(job.AtLeastFor)
		require.True(t, d.free())
	})
}

func TestLocker_KeepsTheLockAliveUntilLockAtMostFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, lock.Config{})
		began := time.Now()
		r := d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			for ctx.Err() == nil {
				require.False(t, d.free(), "after %s", time.Since(began))
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
			require.ErrorIs(t, context.Cause(ctx), lock.ErrLost)
			require.ErrorContains(t, context.Cause(ctx), "AtMostFor, 4m0s")
			require.ErrorIs(t, lock.Assert(ctx), lock.ErrLost)
			require.ErrorIs(t, lock.Guard(ctx, nil), lock.ErrLost)
			return ctx.Err()
		})
		require.ErrorIs(t, r.Err, lock.ErrLost)
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
		d := newDesk(t, lock.Config{Hooks: lock.Hooks{Lost: func(_ lock.Grant, err error) { lost = err }}})
		d.silent = true
		began := time.Now()
		r := d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			<-ctx.Done()
			require.False(t, d.free(), "the store still keeps others out when the task is told")
			require.ErrorIs(t, context.Cause(ctx), lock.ErrLost)
			return nil
		})
		require.ErrorIs(t, r.Err, lock.ErrLost, "although the task says all is well")
		require.ErrorIs(t, lost, lock.ErrLost)
		require.InDelta(t, 29.7, time.Since(began).Seconds(), 0.1)
	})
}

func TestLocker_CancelsTheTaskAtOnceWhenARenewalIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, lock.Config{})
		d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			began := time.Now()
			d.set(func() { d.refuse = lock.ErrLost })
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), lock.ErrLost)
			require.Equal(t, 10*time.Second, time.Since(began))
			return nil
		})
		require.Equal(t, 1, d.renewed)
	})
}

func TestLocker_TriesARenewalAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, lock.Config{})
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
		locks := &recorded{Provider: lock.NewMemory()}
		locker, err := lock.NewLocker(locks, lock.Config{Lease: 5 * time.Second})
		require.NoError(t, err)
		lock := lock.Lock{Name: "job", AtMostFor: 12 * time.Hour, AtLeastFor: time.Minute}
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
	lock.Provider
	first  time.Duration
	leases []time.Duration
}

func (r *recorded) Acquire(ctx context.Context, c lock.Request) (lock.Grant, error) {
	r.first = c.Lease
	return r.Provider.Acquire(ctx, c)
}

func (r *recorded) Renew(ctx context.Context, g lock.Grant, lease time.Duration) error {
	r.leases = append(r.leases, lease)
	return r.Provider.Renew(ctx, g, lease)
}

func TestLocker_WithoutKeepAliveTakesTheWholeTimeAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, lock.Config{NoKeepAlive: true})
		began := time.Now()
		d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), lock.ErrLost)
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
		d := newDesk(t, lock.Config{Hooks: lock.Hooks{Failed: func(_ string, err error) { failed = err }}})
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
		d := newDesk(t, lock.Config{})
		var ended time.Time
		d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			time.Sleep(3 * time.Minute)
			require.NoError(t, lock.Extend(ctx, 10*time.Minute, 20*time.Second))
			time.Sleep(9 * time.Minute)
			require.NoError(t, ctx.Err())
			require.False(t, d.free())
			require.NoError(t, lock.Extend(ctx, 5*time.Minute, 20*time.Second))
			require.ErrorContains(t, lock.Extend(ctx, time.Second, time.Minute), "AtLeastFor")
			ended = time.Now()
			return nil
		})
		time.Sleep(time.Until(ended.Add(20*time.Second - 1)))
		require.False(t, d.free(), "the new least time counts from the extension")
		time.Sleep(time.Millisecond)
		require.True(t, d.free())
		require.ErrorIs(t, lock.Extend(t.Context(), time.Minute, 0), lock.ErrNotLocked)
	})
}

func TestExtend_FailsOnceTheLockIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, lock.Config{})
		d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			d.set(func() { d.refuse = lock.ErrLost })
			require.ErrorIs(t, lock.Extend(ctx, time.Hour, 0), lock.ErrLost)
			<-ctx.Done()
			require.ErrorIs(t, lock.Extend(ctx, time.Hour, 0), lock.ErrLost)
			return nil
		})
	})
}

func TestLocker_TheLockIsKnownInTheTasksGoroutinesAndNotAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, lock.Config{})
		var task context.Context
		r := d.locker.Do(t.Context(), job, func(ctx context.Context) error {
			task = ctx
			inside := make(chan error, 1)
			go func() { inside <- lock.Assert(context.WithoutCancel(ctx)) }()
			fence, ok := lock.Fence(ctx)
			require.True(t, ok)
			require.Positive(t, fence)
			again := d.locker.Do(ctx, job, func(ctx context.Context) error { return lock.Assert(ctx) })
			require.True(t, again.Executed, "under the same lock it simply runs")
			require.Equal(t, fence, again.Fence)
			time.Sleep(time.Second)
			apart := d.other.Do(ctx, lock.Lock{Name: "apart", AtMostFor: time.Minute}, func(ctx context.Context) error {
				f, _ := lock.Fence(ctx)
				require.Greater(t, f, fence, "the innermost")
				return nil
			})
			require.True(t, apart.Executed)
			return <-inside
		})
		require.NoError(t, r.Err)
		require.ErrorIs(t, lock.Assert(task), lock.ErrNotLocked)
		require.ErrorIs(t, lock.Guard(task, nil), lock.ErrNotLocked)
	})
}

func TestAssumeLocked_LetsATaskBeTestedAlone(t *testing.T) {
	t.Parallel()
	ctx := lock.Assume(t.Context(), "job")
	require.NoError(t, lock.Assert(ctx))
	require.NoError(t, lock.Guard(ctx, nil))
	require.NoError(t, lock.Extend(ctx, time.Minute, 0))
	d := newDesk(t, lock.Config{})
	require.True(t, d.locker.Do(ctx, job, lock.Assert).Executed)
}

func TestLock_ReportsEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	err := lock.Lock{Name: "a b", AtLeastFor: -1}.Validate()
	for _, part := range []string{`"a b"`, "AtMostFor: must be at least 1ms", "AtLeastFor: must be at least 0s"} {
		require.ErrorContains(t, err, part)
	}
	require.ErrorContains(t, lock.Lock{Name: "a", AtMostFor: time.Second, AtLeastFor: time.Minute}.Validate(), "AtLeastFor: must be at most AtMostFor")
	require.NoError(t, lock.Lock{Name: "a", AtMostFor: time.Second, AtLeastFor: time.Second}.Validate())
	_, err = lock.NewLocker(nil, lock.Config{Lease: -1, Timeout: -1})
	for _, part := range []string{"locks: must not be nil", "Lease: must be at least 10ms", "Timeout: must be positive"} {
		require.ErrorContains(t, err, part)
	}
}
