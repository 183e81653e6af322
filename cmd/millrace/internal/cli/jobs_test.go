package cli_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/test/harness"
)

// shop is a database with a scheduler at work: "report" is at work until it is
// cancelled, "resend" has run, "never" only is defined, "java" is a lock.
type shop struct {
	db   *harness.Database
	jobs func(args ...string) outcome
	ran  chan struct{} // takes from each run of resend
	lost chan error    // why report was cancelled
}

func openShop(t *testing.T) *shop {
	db := harness.NewDatabase(t)
	_, err := db.DB.Exec(`INSERT INTO shedlock (name, lock_until, locked_at, locked_by) VALUES ('java', '2026-01-01', '2026-01-01', 'tomcat')`)
	require.NoError(t, err)
	s := &shop{db: db, ran: make(chan struct{}, 100), lost: make(chan error, 1)}
	s.jobs = func(args ...string) outcome {
		t.Helper()
		return run(t, map[string]string{"DATABASE_URL": db.DSN}, append([]string{"jobs"}, args...)...)
	}
	locks, err := lock.NewPostgres(db.DB)
	require.NoError(t, err)
	locker, err := lock.NewLocker(locks, lock.Config{Lease: 2 * time.Second})
	require.NoError(t, err)
	history, err := schedule.NewPostgresHistory(db.DB)
	require.NoError(t, err)
	atWork := make(chan struct{})
	scheduler, err := schedule.NewScheduler(locker, history, []schedule.Job{
		{Name: "report", Schedule: "PT1S", Run: func(ctx context.Context) error {
			select {
			case atWork <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			<-ctx.Done()
			select {
			case s.lost <- context.Cause(ctx):
			default:
			}
			return ctx.Err()
		}},
		{Name: "resend", Schedule: "0 0 0 1 1 *", LockAtMostFor: "PT4M", LockAtLeastFor: "PT0S", Run: func(context.Context) error { s.ran <- struct{}{}; return nil }},
		{Name: "never", Schedule: "0 0 0 L 2 *", Run: func(context.Context) error { panic("oh") }},
	}, schedule.SchedulerConfig{Node: "shop:1", Poll: 100 * time.Millisecond})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- scheduler.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	<-atWork
	return s
}

func TestJobs_ShowWhoHoldsWhatAndWhatRanLastAndHowItEnded(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	got := s.jobs("run", "--job", "resend", "--wait", "30s", "--yes", "--note", "now")
	require.Zero(t, got.code, got.stderr)
	require.Contains(t, got.out, "resend on shop:1: ok, took")
	require.Len(t, s.ran, 1)

	list := s.jobs("list")
	require.Zero(t, list.code, list.stderr)
	require.Regexp(t, `(?m)^report +PT1S +\S+Z +\S+Z +running +- +shop:1 +\S+:\d+:\S+ for [12]s$`, list.out)
	require.Regexp(t, `(?m)^resend +0 0 0 1 1 \* +20\d\d-01-01T00:00:00Z +\S+Z +ok +\S+ +shop:1 +free$`, list.out)
	require.Regexp(t, `(?m)^never +0 0 0 L 2 \* +\S+-02-2[89]T00:00:00Z +- +- +- +- +-$`, list.out)
	require.Regexp(t, `(?m)^java +- .* free$`, list.out)
	var all []struct {
		Job  string
		Last *struct{ Outcome string }
		Lock *struct{ Held bool }
	}
	require.NoError(t, json.Unmarshal([]byte(s.jobs("list", "--json").out), &all))
	require.Len(t, all, 4)

	locks := s.jobs("locks")
	require.Regexp(t, `(?m)^report +held +\S+ +\S+Z +\S+Z +[12]s +\d{16} +postgres$`, locks.out)
	require.Regexp(t, `(?m)^java +free +tomcat +2026-01-01T00:00:00Z +2026-01-01T00:00:00Z +- `, locks.out)
	var held []struct{ Name string }
	require.NoError(t, json.Unmarshal([]byte(s.jobs("locks", "--held", "--json").out), &held))
	require.Len(t, held, 1)

	history := s.jobs("history", "--job", "resend")
	require.Regexp(t, `(?m)^resend +\S+Z +ok +\S+Z +\S+ +shop:1 +1 +\d{16} +- +\(requested by \S+@\S+\)`, history.out)
	failed := s.jobs("run", "--job", "never", "--wait", "30s", "--yes")
	require.Equal(t, 1, failed.code)
	require.Contains(t, failed.stderr, "ended with panic: panic: oh")
	var runs []struct{ Error string }
	require.NoError(t, json.Unmarshal([]byte(s.jobs("history", "--outcome", "panic", "--since", "1h", "--json").out), &runs))
	require.Len(t, runs, 1)
	require.Equal(t, "no runs\n", s.jobs("history", "--job", "none").out)
}

func TestJobsUnlock_IsADryRunUnlessYesAndCancelsTheHolder(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	dry := s.jobs("unlock", "--job", "report")
	require.Zero(t, dry.code, dry.stderr)
	require.Regexp(t, `^would free report, held by \S+ since \S+Z, fence \d{16}\n$`, dry.out)
	require.Contains(t, dry.stderr, "give --yes")
	require.Empty(t, s.lost)

	done := s.jobs("unlock", "--job", "report", "--yes", "--note", "stuck", "--json")
	require.Zero(t, done.code, done.stderr)
	var report struct {
		DryRun  bool `json:"dry_run"`
		Audited bool
		Lock    struct {
			Name  string
			Held  bool
			Fence int64
		}
	}
	require.NoError(t, json.Unmarshal([]byte(done.out), &report))
	require.False(t, report.DryRun)
	require.True(t, report.Audited)
	require.True(t, report.Lock.Held)
	select {
	case cause := <-s.lost:
		require.ErrorIs(t, cause, lock.ErrLost)
	case <-time.After(2 * time.Minute):
		require.Fail(t, "the holder was not cancelled")
	}
	var actor, note, detail string
	require.NoError(t, s.db.DB.QueryRow(`SELECT actor, note, detail FROM job_audit WHERE action = 'unlock' AND name = 'report'`).Scan(&actor, &note, &detail))
	require.Regexp(t, `^.+@.+$`, actor)
	require.Equal(t, "stuck", note)
	require.Contains(t, detail, "held by ")

	none := s.jobs("unlock", "--job", "java", "--yes")
	require.Equal(t, 1, none.code)
	require.Contains(t, none.stderr, "nobody holds the lock java")
	require.Equal(t, 2, s.jobs("unlock").code)
}

func TestJobsRun_ChangesNothingWithoutYesAndNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	dry := s.jobs("run", "--job", "resend")
	require.Zero(t, dry.code, dry.stderr)
	require.Equal(t, "would ask the schedulers to run resend once\n", dry.out)
	var requests int
	require.NoError(t, s.db.DB.QueryRow(`SELECT count(*) FROM job_run WHERE requested_by <> ''`).Scan(&requests))
	require.Zero(t, requests)
	for _, args := range [][]string{{"run", "--job", "java"}, {"run", "--job", "java", "--yes"}} {
		unknown := s.jobs(args...)
		require.Equal(t, 1, unknown.code)
		require.Contains(t, unknown.stderr, "no scheduler runs a job java")
	}
	require.Equal(t, 2, s.jobs("run", "--yes").code)
}

func TestJobs_OfADatabaseWithoutThem(t *testing.T) {
	t.Parallel()
	db := harness.EmptyDatabase(t)
	env := map[string]string{"DATABASE_URL": db.DSN}
	for _, args := range [][]string{{"list"}, {"history"}, {"locks"}, {"run", "--job", "x"}, {"unlock", "--job", "x", "--yes"}} {
		got := run(t, env, append([]string{"jobs"}, args...)...)
		require.Equal(t, 1, got.code)
		require.Contains(t, got.stderr, "run millrace migrate up", args)
	}
	fresh := harness.NewDatabase(t)
	env["DATABASE_URL"] = fresh.DSN
	require.Contains(t, run(t, env, "jobs", "list").out, "no jobs: no scheduler has run")
	require.Equal(t, "no locks\n", run(t, env, "jobs", "locks").out)
}
