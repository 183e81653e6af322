package schedule_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// A clock that was ahead for a while does not silence the job for as long after it
// is set right.
func TestScheduler_GoesOnAfterItsClockWasFarAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		task, times := counted()
		clock := &shifted{}
		n.cfg.Clock = clock
		n.start(schedule.Job{Name: "j", Schedule: "0 * * * * *", Run: task})
		time.Sleep(time.Minute + time.Second)
		clock.shift(3 * time.Hour)
		time.Sleep(time.Minute)
		require.Equal(t, 3, times(), "00:01, the latest that was passed over, 03:02")
		clock.shift(-3 * time.Hour)
		time.Sleep(5 * time.Minute)
		require.Equal(t, 8, times())
		require.NoError(t, n.end())
	})
}

// A node that is behind comes to a slot whose run has crashed when the lock is
// free again. The slot was begun, and is not begun twice.
func TestScheduler_ANodeThatIsBehindLeavesACrashedSlotAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		clock := &shifted{off: -90 * time.Second}
		n.cfg.Clock = clock
		task, times := counted()
		n.start(schedule.Job{Name: "j", Schedule: "0 0 * * * *", Run: task})
		time.Sleep(time.Hour)
		die(t, n, "j", time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC))
		time.Sleep(5 * time.Minute)
		require.NoError(t, n.end())
		require.Equal(t, 1, times(), "its clock passed midnight, too")
		require.Equal(t, []string{"00:00:00 one ok", "01:00:00 dead running"}, n.outcomes("j"))
	})
}

// late is a history that another node writes in just after it was looked at.
type late struct{ *schedule.MemoryHistory }

func (late) Outcome(context.Context, string, time.Time) (schedule.Outcome, error) { return "", nil }

func (late) Begin(context.Context, schedule.Run, bool) (int, error) {
	return 0, schedule.ErrSlotTaken
}

// releases records for how long each released lock was to be kept.
type releases struct {
	lock.Provider
	mu   sync.Mutex
	kept []time.Duration
}

func (r *releases) Release(ctx context.Context, g lock.Grant, atLeast time.Duration) error {
	r.mu.Lock()
	r.kept = append(r.kept, atLeast)
	r.mu.Unlock()
	return r.Provider.Release(ctx, g, atLeast)
}

// A node that finds under the lock that the slot has been run frees the lock at
// once: the least time is for runs.
func TestScheduler_ASlotThatWasTakenCostsNoLeastTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		locks := &releases{Provider: lock.NewMemory()}
		locker, err := lock.NewLocker(locks, lock.Config{})
		require.NoError(t, err)
		var verdict schedule.Verdict
		s, err := schedule.NewScheduler(locker, late{schedule.NewMemoryHistory()}, []schedule.Job{{
			Name: "job", Schedule: "0 * * * * *", LockAtLeastFor: "PT30S", Run: func(context.Context) error { panic("not to be run") },
		}}, schedule.SchedulerConfig{Hooks: schedule.Hooks{Slot: func(s schedule.Slot) { verdict = s.Verdict }}})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Minute + time.Millisecond)
		synctest.Wait()
		require.True(t, free(t, locks.Provider))
		stop()
		require.NoError(t, <-done)
		require.Equal(t, schedule.VerdictTaken, verdict)
		require.Equal(t, []time.Duration{0}, locks.kept)
	})
}
