package schedule_test

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	cron "github.com/netresearch/go-cron"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/test/harness"
)

// skewed is a node whose clock is off.
type skewed struct {
	name  string
	off   time.Duration
	clock *cron.FakeClock
	mu    sync.Mutex
	past  time.Time // slots up to it are settled
	next  time.Time // the slot that its clock waits for
	ran   int
}

func (n *skewed) settle(slot time.Time, v schedule.Verdict) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if v == schedule.VerdictRan {
		n.ran++
	}
	if v == schedule.VerdictRan || v == schedule.VerdictTaken {
		n.past = slot
	}
}

func (n *skewed) settled() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.past
}

// startSkewed runs a node on db whose job writes its effect under its guard.
func startSkewed(t *testing.T, db *harness.Database, n *skewed, job schedule.Job) {
	t.Helper()
	locker, err := lock.NewLocker(postgresLocks(t, db), lock.Config{})
	require.NoError(t, err)
	job.Name, job.Schedule, job.Missed = "j", "0 * * * * *", schedule.MissedRunAll
	job.Run = func(ctx context.Context) error {
		run, _ := schedule.CurrentRun(ctx)
		return effect(ctx, db.DB, run, n.name)
	}
	s, err := schedule.NewScheduler(locker, postgresHistory(t, db.DB), []schedule.Job{job}, schedule.SchedulerConfig{
		Node: n.name, Clock: n.clock, Poll: 24 * time.Hour,
		Hooks: schedule.Hooks{Slot: func(s schedule.Slot) {
			if s.Err != nil {
				t.Errorf("%s: slot %s: %v", n.name, s.ScheduledAt, s.Err)
			}
			n.settle(s.ScheduledAt, s.Verdict)
		}},
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

// effect writes one row in a transaction that the lock guards.
func effect(ctx context.Context, db *sql.DB, run schedule.Run, node string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := lock.Guard(ctx, tx); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO effect (slot, fence, node) VALUES ($1, $2, $3)`, run.ScheduledAt, run.Fence, node); err != nil {
		return err
	}
	return tx.Commit()
}

const effectTable = `CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, slot timestamptz, fence bigint, node text)`

// Two nodes whose clocks are 60 s apart, and wander, see a thousand slots. The job
// takes milliseconds and has no least time, so its lock is free again long before
// the slow clock fires. Each slot has its effect once all the same.
func TestTrap_2_6_ASlotRunsOnceWhateverTheClocksSay(t *testing.T) {
	t.Parallel()
	const slots = 1000
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	db := harness.NewDatabase(t)
	_, err := db.DB.Exec(effectTable)
	require.NoError(t, err)
	truth := time.Date(2026, 11, 22, 12, 0, 30, 0, time.UTC)
	fast, slow := &skewed{name: "fast", off: 30 * time.Second}, &skewed{name: "slow", off: -30 * time.Second}
	nodes := []*skewed{fast, slow}
	timetable, err := schedule.ParseSchedule("0 * * * * *", nil)
	require.NoError(t, err)
	for _, n := range nodes {
		n.clock = cron.NewFakeClock(truth.Add(n.off))
		n.next = timetable.Next(n.clock.Now())
		startSkewed(t, db, n, schedule.Job{})
		n.clock.BlockUntil(2) // it naps, and its poll waits
	}
	end := truth.Add(slots*time.Minute + time.Minute)
	for truth.Before(end) {
		truth = truth.Add(time.Duration(1+random.IntN(20)) * time.Second)
		if random.IntN(50) == 0 { // the clocks wander, to at most 30 s off
			fast.off, slow.off = time.Duration(random.IntN(31))*time.Second, -time.Duration(random.IntN(31))*time.Second
		}
		random.Shuffle(2, func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		for _, n := range nodes {
			n.clock.Set(truth.Add(n.off))
		}
		for _, n := range nodes {
			for !n.next.After(truth.Add(n.off)) {
				n.next = timetable.Next(n.next)
			}
			want := n.next.Add(-time.Minute)
			require.Eventually(t, func() bool {
				if !n.settled().Before(want) || want.Before(time.Date(2026, 11, 22, 12, 1, 1, 0, time.UTC)) {
					return true
				}
				n.clock.Advance(time.Second) // the lock was held: it tries again in a second of its clock
				return false
			}, 2*time.Minute, time.Millisecond, "%s has not settled %s", n.name, want)
		}
	}
	var total, distinct int
	require.NoError(t, db.DB.QueryRow(`SELECT count(*), count(DISTINCT slot) FROM effect`).Scan(&total, &distinct))
	require.Equal(t, distinct, total, "a slot had its effect twice")
	require.GreaterOrEqual(t, distinct, slots)
	var missing int
	require.NoError(t, db.DB.QueryRow(`SELECT count(*) FROM generate_series((SELECT min(slot) FROM effect), (SELECT max(slot) FROM effect), interval '1 minute') AS s
		WHERE NOT EXISTS (SELECT FROM effect WHERE slot = s)`).Scan(&missing))
	require.Zero(t, missing)
	t.Logf("%d slots: %d ran on the fast node, %d on the slow one", distinct, fast.ran, slow.ran)
}

// The least time is by the clock of the store: a node whose clock is behind finds
// the lock still held, although it keeps no history with the other one.
func TestTrap_2_6_TheLeastTimeIsByTheClockOfTheStore(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	locker, err := lock.NewLocker(postgresLocks(t, db), lock.Config{})
	require.NoError(t, err)
	minute := lock.Lock{Name: "j", AtMostFor: 4 * time.Minute, AtLeastFor: time.Minute}
	require.True(t, locker.Do(t.Context(), minute, func(context.Context) error { return nil }).Executed)
	require.False(t, locker.Do(t.Context(), minute, func(context.Context) error { return nil }).Executed)
	var kept, off float64
	require.NoError(t, db.DB.QueryRow(`SELECT extract(epoch FROM lock_until - locked_at), extract(epoch FROM clock_timestamp() - locked_at AT TIME ZONE 'utc') FROM shedlock`).Scan(&kept, &off))
	require.InDelta(t, 60, kept, 0.001)
	require.Less(t, off, 20.0)
}
