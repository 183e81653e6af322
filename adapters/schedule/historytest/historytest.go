package historytest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// Histories is a history under test, and locks whose guard it respects.
type Histories struct {
	History schedule.History
	Locks   lock.Provider
	// Request asks for a run of a defined job outside of its schedule.
	Request func(t *testing.T, job string) time.Time
}

var slot = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// Exercise runs the suite.
func Exercise(t *testing.T, open func(t *testing.T) Histories) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, h Histories)
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
func (h Histories) under(t *testing.T, do func(ctx context.Context, r schedule.Run)) {
	t.Helper()
	locker, err := lock.NewLocker(h.Locks, lock.Config{})
	require.NoError(t, err)
	result := locker.Do(t.Context(), lock.Lock{Name: "j", AtMostFor: time.Minute}, func(ctx context.Context) error {
		do(ctx, schedule.Run{Job: "j", ScheduledAt: slot, Fence: fence(ctx), Node: "n"})
		return nil
	})
	require.NoError(t, result.Err)
	require.True(t, result.Executed)
}

func fence(ctx context.Context) int64 {
	f, _ := lock.Fence(ctx)
	return f
}

func (h Histories) outcome(t *testing.T, at time.Time) schedule.Outcome {
	t.Helper()
	o, err := h.History.Outcome(t.Context(), "j", at)
	require.NoError(t, err)
	return o
}

func oneRun(t *testing.T, h Histories) {
	last, err := h.History.Last(t.Context(), "j")
	require.NoError(t, err)
	require.True(t, last.IsZero())
	require.Empty(t, h.outcome(t, slot))
	h.under(t, func(ctx context.Context, r schedule.Run) {
		attempt, err := h.History.Begin(ctx, r, true)
		require.NoError(t, err)
		require.Equal(t, 1, attempt)
		require.Equal(t, schedule.OutcomeRunning, h.outcome(t, slot))
		require.NoError(t, h.History.Finish(ctx, r, lock.OutcomeError, "no\x00\xff"))
		require.Equal(t, lock.OutcomeError, h.outcome(t, slot))
		require.NoError(t, h.History.Finish(ctx, r, lock.OutcomeOK, ""), "too late, and no harm")
		require.Equal(t, lock.OutcomeError, h.outcome(t, slot))
	})
	h.under(t, func(ctx context.Context, r schedule.Run) {
		_, err := h.History.Begin(ctx, r, true)
		require.ErrorIs(t, err, schedule.ErrSlotTaken)
	})
	last, err = h.History.Last(t.Context(), "j")
	require.NoError(t, err)
	require.Equal(t, slot, last)
}

func rerun(t *testing.T, h Histories) {
	for i, left := range []schedule.Outcome{schedule.OutcomeRunning, lock.OutcomeLost, lock.OutcomeStopped} {
		at := slot.Add(time.Duration(i) * time.Minute)
		h.under(t, func(ctx context.Context, r schedule.Run) {
			r.ScheduledAt = at
			_, err := h.History.Begin(ctx, r, true)
			require.NoError(t, err)
			if left != schedule.OutcomeRunning {
				require.NoError(t, h.History.Finish(ctx, r, left, ""))
			}
			_, err = h.History.Begin(ctx, r, true)
			require.ErrorIs(t, err, schedule.ErrSlotTaken, "not under the same fence")
		})
		open, err := h.History.Open(t.Context(), []string{"j", "k"}, at.Add(-time.Second))
		require.NoError(t, err)
		require.Len(t, open, 1)
		require.Equal(t, at, open[0].ScheduledAt)
		require.Equal(t, left, open[0].Outcome)
		h.under(t, func(ctx context.Context, r schedule.Run) {
			r.ScheduledAt = at
			_, err := h.History.Begin(ctx, r, false)
			require.ErrorIs(t, err, schedule.ErrSlotTaken)
			attempt, err := h.History.Begin(ctx, r, true)
			require.NoError(t, err)
			require.Equal(t, 2, attempt)
			require.NoError(t, h.History.Finish(ctx, r, lock.OutcomeOK, ""))
		})
		open, err = h.History.Open(t.Context(), []string{"j"}, at.Add(-time.Second))
		require.NoError(t, err)
		require.Empty(t, open)
	}
}

func attempts(t *testing.T, h Histories) {
	for want := 1; want <= 3; want++ {
		h.under(t, func(ctx context.Context, r schedule.Run) {
			attempt, err := h.History.Begin(ctx, r, true)
			require.NoError(t, err)
			require.Equal(t, want, attempt)
		})
	}
	h.under(t, func(ctx context.Context, r schedule.Run) {
		_, err := h.History.Begin(ctx, r, true)
		require.ErrorIs(t, err, schedule.ErrSlotTaken)
	})
}

func requested(t *testing.T, h Histories) {
	require.NoError(t, h.History.Define(t.Context(), []schedule.Definition{
		{Job: "j", Schedule: "@daily", Zone: "UTC", AtMost: time.Minute, Missed: schedule.MissedRunOnce, Crashed: schedule.CrashedSkip},
	}))
	at := h.Request(t, "j")
	open, err := h.History.Open(t.Context(), []string{"j"}, at.Add(-time.Second))
	require.NoError(t, err)
	require.Len(t, open, 1)
	require.Equal(t, schedule.OutcomeRequested, open[0].Outcome)
	require.NotEmpty(t, open[0].RequestedBy)
	for i := range 2 {
		h.under(t, func(ctx context.Context, r schedule.Run) {
			r.ScheduledAt = open[0].ScheduledAt
			_, err := h.History.Begin(ctx, r, false)
			if i > 0 {
				require.ErrorIs(t, err, schedule.ErrSlotTaken)
				return
			}
			require.NoError(t, err)
			require.NoError(t, h.History.Finish(ctx, r, lock.OutcomeOK, ""))
		})
	}
	last, err := h.History.Last(t.Context(), "j")
	require.NoError(t, err)
	require.True(t, last.IsZero(), "it is no slot of the schedule")
}

func underItsLock(t *testing.T, h Histories) {
	var ended context.Context
	h.under(t, func(ctx context.Context, _ schedule.Run) { ended = context.WithoutCancel(ctx) })
	_, err := h.History.Begin(ended, schedule.Run{Job: "j", ScheduledAt: slot, Fence: fence(ended)}, true)
	require.ErrorIs(t, err, lock.ErrNotLocked)
	require.Empty(t, h.outcome(t, slot))
}

func overtaken(t *testing.T, h Histories) {
	var old schedule.Run
	h.under(t, func(ctx context.Context, r schedule.Run) {
		_, err := h.History.Begin(ctx, r, true)
		require.NoError(t, err)
		old = r
	})
	h.under(t, func(ctx context.Context, r schedule.Run) {
		_, err := h.History.Begin(ctx, r, true)
		require.NoError(t, err)
		require.NoError(t, h.History.Finish(ctx, old, lock.OutcomeOK, ""))
		require.Equal(t, schedule.OutcomeRunning, h.outcome(t, slot))
	})
}

func crashed(t *testing.T, h Histories) {
	h.under(t, func(ctx context.Context, r schedule.Run) {
		_, err := h.History.Begin(ctx, r, true)
		require.NoError(t, err)
	})
	h.under(t, func(ctx context.Context, r schedule.Run) {
		r.ScheduledAt = slot.Add(time.Minute)
		_, err := h.History.Begin(ctx, r, true)
		require.NoError(t, err)
		require.Equal(t, schedule.OutcomeCrashed, h.outcome(t, slot))
		require.Equal(t, schedule.OutcomeRunning, h.outcome(t, r.ScheduledAt))
	})
}

func forgotten(t *testing.T, h Histories) {
	for i := range 3 {
		h.under(t, func(ctx context.Context, r schedule.Run) {
			r.ScheduledAt = slot.Add(time.Duration(i) * time.Minute)
			_, err := h.History.Begin(ctx, r, true)
			require.NoError(t, err)
		})
	}
	require.NoError(t, h.History.Forget(t.Context(), []string{"j"}, slot.Add(2*time.Minute)))
	require.NoError(t, h.History.Forget(t.Context(), []string{"k"}, slot.Add(time.Hour)))
	require.Empty(t, h.outcome(t, slot))
	require.Empty(t, h.outcome(t, slot.Add(time.Minute)))
	require.Equal(t, schedule.OutcomeRunning, h.outcome(t, slot.Add(2*time.Minute)))
}
