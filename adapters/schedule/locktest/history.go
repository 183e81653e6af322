package locktest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
)

// Books is a history under test, and locks whose guard it heeds.
type Books struct {
	History schedule.History
	Locks   schedule.LockProvider
	// Request asks for a run of a defined job outside of its schedule.
	Request func(t *testing.T, job string) time.Time
}

var slot = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// ExerciseHistory runs the suite.
func ExerciseHistory(t *testing.T, open func(t *testing.T) Books) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, b Books)
	}{
		{"a slot has one run", oneRun},
		{"a run that did not end is run again if that is wanted", rerun},
		{"a slot is begun three times at most", attempts},
		{"a requested run is taken up once", requested},
		{"a run is begun only under its lock", underItsLock},
		{"a run that was overtaken cannot end the slot", overtaken},
		{"open runs of lower fences are crashed", crashed},
		{"old runs are forgotten", forgotten},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, open(t))
		})
	}
}

// under runs do under the lock j, as a node's scheduler does.
func (b Books) under(t *testing.T, do func(ctx context.Context, r schedule.Run)) {
	t.Helper()
	locker, err := schedule.NewLocker(b.Locks, schedule.LockerConfig{})
	require.NoError(t, err)
	result := locker.Do(t.Context(), schedule.Lock{Name: "j", AtMostFor: long}, func(ctx context.Context) error {
		do(ctx, schedule.Run{Job: "j", ScheduledAt: slot, Fence: fence(ctx), Node: "n"})
		return nil
	})
	require.NoError(t, result.Err)
	require.True(t, result.Executed)
}

func fence(ctx context.Context) int64 {
	f, _ := schedule.Fence(ctx)
	return f
}

func (b Books) look(t *testing.T, at time.Time) schedule.Outcome {
	t.Helper()
	o, err := b.History.Look(t.Context(), "j", at)
	require.NoError(t, err)
	return o
}

func oneRun(t *testing.T, b Books) {
	last, err := b.History.Last(t.Context(), "j")
	require.NoError(t, err)
	require.True(t, last.IsZero())
	require.Empty(t, b.look(t, slot))
	b.under(t, func(ctx context.Context, r schedule.Run) {
		attempt, err := b.History.Begin(ctx, r, true)
		require.NoError(t, err)
		require.Equal(t, 1, attempt)
		require.Equal(t, schedule.OutcomeRunning, b.look(t, slot))
		require.NoError(t, b.History.Finish(ctx, r, schedule.OutcomeError, "no\x00\xff"))
		require.Equal(t, schedule.OutcomeError, b.look(t, slot))
		require.NoError(t, b.History.Finish(ctx, r, schedule.OutcomeOK, ""), "too late, and no harm")
		require.Equal(t, schedule.OutcomeError, b.look(t, slot))
	})
	b.under(t, func(ctx context.Context, r schedule.Run) {
		_, err := b.History.Begin(ctx, r, true)
		require.ErrorIs(t, err, schedule.ErrSlotTaken)
	})
	last, err = b.History.Last(t.Context(), "j")
	require.NoError(t, err)
	require.Equal(t, slot, last)
}

func rerun(t *testing.T, b Books) {
	for i, left := range []schedule.Outcome{schedule.OutcomeRunning, schedule.OutcomeLost, schedule.OutcomeStopped} {
		at := slot.Add(time.Duration(i) * time.Minute)
		b.under(t, func(ctx context.Context, r schedule.Run) {
			r.ScheduledAt = at
			_, err := b.History.Begin(ctx, r, true)
			require.NoError(t, err)
			if left != schedule.OutcomeRunning {
				require.NoError(t, b.History.Finish(ctx, r, left, ""))
			}
			_, err = b.History.Begin(ctx, r, true)
			require.ErrorIs(t, err, schedule.ErrSlotTaken, "not under the same fence")
		})
		open, err := b.History.Open(t.Context(), []string{"j", "k"}, at.Add(-time.Second))
		require.NoError(t, err)
		require.Len(t, open, 1)
		require.Equal(t, at, open[0].ScheduledAt)
		require.Equal(t, left, open[0].Outcome)
		b.under(t, func(ctx context.Context, r schedule.Run) {
			r.ScheduledAt = at
			_, err := b.History.Begin(ctx, r, false)
			require.ErrorIs(t, err, schedule.ErrSlotTaken)
			attempt, err := b.History.Begin(ctx, r, true)
			require.NoError(t, err)
			require.Equal(t, 2, attempt)
			require.NoError(t, b.History.Finish(ctx, r, schedule.OutcomeOK, ""))
		})
		open, err = b.History.Open(t.Context(), []string{"j"}, at.Add(-time.Second))
		require.NoError(t, err)
		require.Empty(t, open)
	}
}

func attempts(t *testing.T, b Books) {
	for want := 1; want <= 3; want++ {
		b.under(t, func(ctx context.Context, r schedule.Run) {
			attempt, err := b.History.Begin(ctx, r, true)
			require.NoError(t, err)
			require.Equal(t, want, attempt)
		})
	}
	b.under(t, func(ctx context.Context, r schedule.Run) {
		_, err := b.History.Begin(ctx, r, true)
		require.ErrorIs(t, err, schedule.ErrSlotTaken)
	})
}

func requested(t *testing.T, b Books) {
	require.NoError(t, b.History.Define(t.Context(), []schedule.Definition{
		{Job: "j", Schedule: "@daily", Zone: "UTC", AtMost: time.Minute, Missed: schedule.MissedRunOnce, Crashed: schedule.CrashedSkip},
	}))
	at := b.Request(t, "j")
	open, err := b.History.Open(t.Context(), []string{"j"}, at.Add(-time.Second))
	require.NoError(t, err)
	require.Len(t, open, 1)
	require.Equal(t, schedule.OutcomeRequested, open[0].Outcome)
	require.NotEmpty(t, open[0].RequestedBy)
	for i := range 2 {
		b.under(t, func(ctx context.Context, r schedule.Run) {
			r.ScheduledAt = open[0].ScheduledAt
			_, err := b.History.Begin(ctx, r, false)
			if i > 0 {
				require.ErrorIs(t, err, schedule.ErrSlotTaken)
				return
			}
			require.NoError(t, err)
			require.NoError(t, b.History.Finish(ctx, r, schedule.OutcomeOK, ""))
		})
	}
	last, err := b.History.Last(t.Context(), "j")
	require.NoError(t, err)
	require.True(t, last.IsZero(), "it is no slot of the schedule")
}

func underItsLock(t *testing.T, b Books) {
	var ended context.Context
	b.under(t, func(ctx context.Context, _ schedule.Run) { ended = context.WithoutCancel(ctx) })
	_, err := b.History.Begin(ended, schedule.Run{Job: "j", ScheduledAt: slot, Fence: fence(ended)}, true)
	require.ErrorIs(t, err, schedule.ErrNotLocked)
	require.Empty(t, b.look(t, slot))
}

func overtaken(t *testing.T, b Books) {
	var old schedule.Run
	b.under(t, func(ctx context.Context, r schedule.Run) {
		_, err := b.History.Begin(ctx, r, true)
		require.NoError(t, err)
		old = r
	})
	b.under(t, func(ctx context.Context, r schedule.Run) {
		_, err := b.History.Begin(ctx, r, true)
		require.NoError(t, err)
		require.NoError(t, b.History.Finish(ctx, old, schedule.OutcomeOK, ""))
		require.Equal(t, schedule.OutcomeRunning, b.look(t, slot))
	})
}

func crashed(t *testing.T, b Books) {
	b.under(t, func(ctx context.Context, r schedule.Run) {
		_, err := b.History.Begin(ctx, r, true)
		require.NoError(t, err)
	})
	b.under(t, func(ctx context.Context, r schedule.Run) {
		r.ScheduledAt = slot.Add(time.Minute)
		_, err := b.History.Begin(ctx, r, true)
		require.NoError(t, err)
		require.Equal(t, schedule.OutcomeCrashed, b.look(t, slot))
		require.Equal(t, schedule.OutcomeRunning, b.look(t, r.ScheduledAt))
	})
}

func forgotten(t *testing.T, b Books) {
	for i := range 3 {
		b.under(t, func(ctx context.Context, r schedule.Run) {
			r.ScheduledAt = slot.Add(time.Duration(i) * time.Minute)
			_, err := b.History.Begin(ctx, r, true)
			require.NoError(t, err)
		})
	}
	require.NoError(t, b.History.Forget(t.Context(), []string{"j"}, slot.Add(2*time.Minute)))
	require.NoError(t, b.History.Forget(t.Context(), []string{"k"}, slot.Add(time.Hour)))
	require.Empty(t, b.look(t, slot))
	require.Empty(t, b.look(t, slot.Add(time.Minute)))
	require.Equal(t, schedule.OutcomeRunning, b.look(t, slot.Add(2*time.Minute)))
}
