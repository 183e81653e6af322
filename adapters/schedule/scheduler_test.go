package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/locktest"
)

// node is a scheduler over locks and a history in memory.
type node struct {
	t       *testing.T
	locks   lock.Provider
	history *schedule.MemoryHistory
	cfg     schedule.SchedulerConfig
	stop    context.CancelFunc
	done    chan error
}

func newNode(t *testing.T) *node {
	return &node{t: t, locks: lock.NewMemory(), history: schedule.NewMemoryHistory(), cfg: schedule.SchedulerConfig{Node: "one"}}
}

// beside is a node on the same store.
func (n *node) beside() *node {
	return &node{t: n.t, locks: n.locks, history: n.history, cfg: schedule.SchedulerConfig{Node: "two"}}
}

func (n *node) start(jobs ...schedule.Job) {
	n.t.Helper()
	locker, err := lock.NewLocker(n.locks, lock.Config{})
	require.NoError(n.t, err)
	s, err := schedule.NewScheduler(locker, n.history, jobs, n.cfg)
	require.NoError(n.t, err)
	ctx, stop := context.WithCancel(n.t.Context())
	n.stop, n.done = stop, make(chan error, 1)
	go func() { n.done <- s.Run(ctx) }()
}

func (n *node) end() error {
	n.stop()
	return <-n.done
}

// outcomes are those of job's slots, by minute after the first one.
func (n *node) outcomes(job string) (all []string) {
	for _, r := range n.history.Runs(job) {
		all = append(all, fmt.Sprintf("%s %s %s", r.ScheduledAt.Format("15:04:05"), r.Node, r.Outcome))
	}
	return all
}

// free reports whether another node gets the lock job now.
func free(t *testing.T, locks lock.Provider) bool {
	t.Helper()
	other, err := lock.NewLocker(locks, lock.Config{})
	require.NoError(t, err)
	return other.Do(context.Background(), lock.Lock{Name: "job", AtMostFor: time.Minute}, func(context.Context) error { return nil }).Executed
}

// counted is a task that counts, and what it counted.
func counted() (task func(context.Context) error, times func() int) {
	var mu sync.Mutex
	n := 0
	return func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			n++
			return nil
		}, func() int {
			mu.Lock()
			defer mu.Unlock()
			return n
		}
}

// The clock of a bubble starts at 2000-01-01T00:00:00Z.

func TestScheduler_RunsEachSlotOnOneNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one := newNode(t)
		two := one.beside()
		task, times := counted()
		j := schedule.Job{Name: "resend", Schedule: "0 */5 * * * *", LockAtLeastFor: "PT10S", Run: task}
		one.start(j)
		two.start(j)
		time.Sleep(time.Hour + time.Second)
		require.Equal(t, 12, times())
		require.Len(t, one.history.Runs("resend"), 12)
		for i, r := range one.history.Runs("resend") {
			require.Equal(t, lock.OutcomeOK, r.Outcome)
			require.Equal(t, time.Duration(i+1)*5*time.Minute, r.ScheduledAt.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)))
			require.Positive(t, r.Fence)
			require.Equal(t, 1, r.Attempt)
		}
		require.NoError(t, one.end())
		require.NoError(t, two.end())
	})
}

func TestScheduler_WritesDownErrorsPanicsAndTraces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.cfg.Trace = func(ctx context.Context, job string) (context.Context, string) {
			return context.WithValue(ctx, traceKey{}, job), "trace of " + job
		}
		turn := 0
		n.start(schedule.Job{Name: "j", Schedule: "0 * * * * *", Run: func(ctx context.Context) error {
			run, ok := schedule.CurrentRun(ctx)
			require.True(t, ok)
			require.Equal(t, "trace of j", run.TraceID)
			require.Equal(t, "j", ctx.Value(traceKey{}))
			switch turn++; turn {
			case 1:
				return errors.New("no")
			case 2:
				panic("oh")
			}
			return nil
		}})
		time.Sleep(3*time.Minute + time.Second)
		require.NoError(t, n.end())
		runs := n.history.Runs("j")
		require.Equal(t, []string{"00:01:00 one error", "00:02:00 one panic", "00:03:00 one ok"}, n.outcomes("j"), "the schedule goes on")
		require.Equal(t, "no", runs[0].Error)
		require.Contains(t, runs[1].Error, "panic: oh")
		require.Equal(t, "trace of j", runs[2].TraceID)
	})
}

type traceKey struct{}

func TestScheduler_ALongRunLeavesOutTheSlotsItCovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		turn := 0
		n.start(schedule.Job{Name: "j", Schedule: "0 * * * * *", LockAtMostFor: "1h", Run: func(context.Context) error {
			if turn++; turn == 1 {
				time.Sleep(3*time.Minute + 30*time.Second)
			}
			return nil
		}})
		time.Sleep(6*time.Minute + time.Second)
		require.NoError(t, n.end())
		require.Equal(t, []string{"00:01:00 one ok", "00:04:00 one ok", "00:05:00 one ok", "00:06:00 one ok"}, n.outcomes("j"))
	})
}

func TestScheduler_RunsTheLatestMissedSlotAfterAnOutage(t *testing.T) {
	t.Parallel()
	for policy, want := range map[schedule.MissedPolicy][]string{
		schedule.MissedRunOnce: {"00:01:00 one ok", "00:04:00 one ok", "00:05:00 one ok"},
		schedule.MissedSkip:    {"00:01:00 one ok", "00:05:00 one ok"},
		schedule.MissedRunAll:  {"00:01:00 one ok", "00:02:00 one ok", "00:03:00 one ok", "00:04:00 one ok", "00:05:00 one ok"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				task, _ := counted()
				j := schedule.Job{Name: "j", Schedule: "0 * * * * *", Missed: policy, Run: task}
				n.start(j)
				time.Sleep(time.Minute + time.Second)
				require.NoError(t, n.end())
				time.Sleep(3*time.Minute + 20*time.Second) // nobody is there
				n.start(j)
				time.Sleep(time.Minute)
				require.NoError(t, n.end())
				require.Equal(t, want, n.outcomes("j"))
			})
		})
	}
}

func TestScheduler_DoesNotRunWhatIsOlderThanTheGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		task, _ := counted()
		j := schedule.Job{Name: "j", Schedule: "0 0 * * * *", Run: task}
		n.start(j)
		time.Sleep(time.Hour + time.Second)
		require.NoError(t, n.end())
		time.Sleep(time.Hour + 10*time.Minute) // past 02:00 by more than ten minutes
		n.start(j)
		time.Sleep(time.Minute)
		require.NoError(t, n.end())
		require.Equal(t, []string{"01:00:00 one ok"}, n.outcomes("j"))
	})
}

func TestScheduler_TakesUpASlotWhoseLockWasHeldByAnEarlierRunThatDied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one := newNode(t)
		two := one.beside()
		died := errors.New("died")
		first := true
		one.start(schedule.Job{Name: "j", Schedule: "0 * * * * *", Run: func(context.Context) error {
			if first {
				first = false
				time.Sleep(time.Second)
				return died
			}
			return nil
		}})
		// A node that takes the lock just before 00:02 and dies with it.
		time.Sleep(time.Minute + 59*time.Second)
		g, err := one.locks.Acquire(t.Context(), locktest.NewRequest("j", 30*time.Second))
		require.NoError(t, err)
		require.NotZero(t, g)
		two.start(schedule.Job{Name: "j", Schedule: "0 * * * * *", Run: func(context.Context) error { return nil }})
		time.Sleep(20 * time.Second)
		require.Len(t, one.history.Runs("j"), 1, "the lock is held, so nobody runs it")
		time.Sleep(20 * time.Second)
		runs := one.history.Runs("j")
		require.Len(t, runs, 2, "and it is run when the lock has lapsed")
		require.Equal(t, "00:02:00", runs[1].ScheduledAt.Format(time.TimeOnly))
		require.NoError(t, one.end())
		require.NoError(t, two.end())
	})
}

func TestScheduler_ACrashedSlotIsSkippedOrRunAgainAsThePolicySays(t *testing.T) {
	t.Parallel()
	for policy, want := range map[schedule.CrashedPolicy][]string{
		schedule.CrashedSkip:  {"00:01:00 dead crashed", "00:02:00 two ok"},
		schedule.CrashedRerun: {"00:01:00 two ok", "00:02:00 two ok"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				two := n.beside()
				task, _ := counted()
				two.start(schedule.Job{Name: "j", Schedule: "0 * * * * *", Crashed: policy, Run: task})
				time.Sleep(59 * time.Second)
				die(t, n, "j", time.Date(2000, 1, 1, 0, 1, 0, 0, time.UTC))
				time.Sleep(62 * time.Second)
				require.NoError(t, two.end())
				require.Equal(t, want, n.outcomes("j"))
			})
		})
	}
}

// die begins a slot on a node that dies with it: its lock is never renewed.
func die(t *testing.T, n *node, name string, slot time.Time) {
	t.Helper()
	dead := &mortal{Provider: n.locks}
	locker, err := lock.NewLocker(dead, lock.Config{})
	require.NoError(t, err)
	locker.Do(t.Context(), lock.Lock{Name: name, AtMostFor: time.Hour}, func(ctx context.Context) error {
		fence, _ := lock.Fence(ctx)
		_, err := n.history.Begin(ctx, schedule.Run{Job: name, ScheduledAt: slot, Fence: fence, Node: "dead"}, false)
		require.NoError(t, err)
		return nil
	})
}

// mortal never releases.
type mortal struct{ lock.Provider }

func (*mortal) Release(context.Context, lock.Grant, time.Duration) error { return nil }

func TestScheduler_RunsWhatAnOperatorRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		task, times := counted()
		n.start(schedule.Job{Name: "j", Schedule: "@daily", Run: task})
		time.Sleep(time.Second)
		n.history.Request("j", "ada@host")
		time.Sleep(6 * time.Second)
		require.Equal(t, 1, times())
		run := n.history.Runs("j")[0]
		require.Equal(t, lock.OutcomeOK, run.Outcome)
		require.Equal(t, "ada@host", run.RequestedBy)
		require.NoError(t, n.end())
	})
}

func TestScheduler_ASlotRunsOnceAlthoughTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		task, times := counted()
		clock := &shifted{}
		n.cfg.Clock = clock
		n.start(schedule.Job{Name: "j", Schedule: "0 * * * * *", Run: task})
		time.Sleep(3*time.Minute + time.Second)
		require.Equal(t, 3, times())
		clock.shift(-2 * time.Minute)
		time.Sleep(2*time.Minute + time.Second) // 00:02 and 00:03 come again
		require.Equal(t, 3, times())
		time.Sleep(time.Minute)
		require.Equal(t, 4, times(), "and then it goes on")
		require.NoError(t, n.end())
	})
}

func TestTrap_2_23_AStopCancelsWaitsAndOnlyThenUnlocksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		locks := &releases{Provider: lock.NewMemory()}
		n := newNode(t)
		n.locks = locks
		var ended time.Time
		n.start(schedule.Job{Name: "job", Schedule: "0 * * * * *", LockAtLeastFor: "10s", Run: func(ctx context.Context) error {
			<-ctx.Done()
			require.NotErrorIs(t, context.Cause(ctx), lock.ErrLost)
			for range 20 { // it takes its time to stop
				time.Sleep(time.Second)
				require.False(t, free(t, locks.Provider), "freed under a running task")
				require.NoError(t, lock.Assert(ctx))
			}
			ended = time.Now()
			return ctx.Err()
		}})
		time.Sleep(90 * time.Second)
		began := time.Now()
		require.NoError(t, n.end())
		require.Equal(t, 20*time.Second, time.Since(began))
		require.Equal(t, ended, time.Now())
		require.Equal(t, []time.Duration{10 * time.Second}, locks.kept, "once")
		require.True(t, free(t, locks.Provider))
		require.Equal(t, []string{"00:01:00 one stopped"}, n.outcomes("job"))
	})
}

func TestScheduler_AStopThatTakesTooLongNamesTheJobsAndKeepsTheirLocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		finish := make(chan struct{})
		n.start(schedule.Job{Name: "job", Schedule: "0 * * * * *", Run: func(context.Context) error {
			<-finish // deaf
			return nil
		}})
		time.Sleep(90 * time.Second)
		began := time.Now()
		require.ErrorContains(t, n.end(), "still at work after 30s: job")
		require.Equal(t, 30*time.Second, time.Since(began))
		time.Sleep(time.Minute)
		require.False(t, free(t, n.locks), "as long as it runs, nobody else does")
		close(finish)
		synctest.Wait()
		require.True(t, free(t, n.locks))
	})
}

func TestScheduler_TakesNoSlotThatSomebodyHasRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		var verdicts []schedule.Verdict
		n.cfg.Hooks.Slot = func(s schedule.Slot) { verdicts = append(verdicts, s.Verdict) }
		n.start(schedule.Job{Name: "j", Schedule: "0 * * * * *", Run: func(context.Context) error { panic("not to be run") }})
		time.Sleep(30 * time.Second)
		two := n.beside()
		locker, err := lock.NewLocker(n.locks, lock.Config{})
		require.NoError(t, err)
		locker.Do(t.Context(), lock.Lock{Name: "j", AtMostFor: time.Minute}, func(ctx context.Context) error {
			run := schedule.Run{Job: "j", ScheduledAt: time.Date(2000, 1, 1, 0, 1, 0, 0, time.UTC), Node: "two"}
			run.Fence, _ = lock.Fence(ctx)
			_, err := two.history.Begin(ctx, run, false)
			require.NoError(t, err)
			return two.history.Finish(ctx, run, lock.OutcomeOK, "")
		})
		time.Sleep(31 * time.Second)
		require.NoError(t, n.end())
		require.Equal(t, []schedule.Verdict{schedule.VerdictTaken}, verdicts)
	})
}

func TestNewScheduler_ReportsAllThatIsWrongNamingTheJob(t *testing.T) {
	t.Parallel()
	run := func(context.Context) error { return nil }
	locker, err := lock.NewLocker(lock.NewMemory(), lock.Config{})
	require.NoError(t, err)
	_, err = schedule.NewScheduler(locker, nil, []schedule.Job{
		{Name: "a", Schedule: "0 0 0 31 2 *", LockAtMostFor: "soon", Run: run},
		{Name: "b", Schedule: "0 */5 * * * *", LockAtMostFor: "10s", LockAtLeastFor: "PT1M", Missed: "perhaps", Crashed: "never"},
		{Name: "c d", Schedule: "* * *", Run: run, Grace: -1},
		{Name: "a", Schedule: "@daily", Run: run},
	}, schedule.SchedulerConfig{Poll: -1})
	for _, part := range []string{
		"history: must not be nil", "Poll: must be positive",
		`job "a": Schedule: "0 0 0 31 2 *" never comes`, `job "a": LockAtMostFor: must be a duration such as PT10S, 10s or 10000 (milliseconds), is "soon"`, `job "a": Name: must be given once, is there twice`,
		`job "b": lock: AtLeastFor: must be at most AtMostFor (10s), is 1m0s`, `job "b": Run: must not be nil`, `job "b": Missed: must be run-once, skip or run-all, is "perhaps"`, `job "b": Crashed: must be skip or rerun, is "never"`,
		`job "c d": Schedule:`, `job "c d": lock: Name: must be 1 to 64`, `job "c d": Grace: must be at least 0s`,
	} {
		require.ErrorContains(t, err, part)
	}
}
