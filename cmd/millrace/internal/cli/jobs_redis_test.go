package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/locktest"
	"github.com/millrace-go/millrace/adapters/schedule/lock/redislock"
	"github.com/millrace-go/millrace/test/harness"
)

// locksInRedis is a Redis with three locks: "report" of ours and "java" of ShedLock
// in the environment default, "report" of ours in prod.
func locksInRedis(t *testing.T) (url string, locks lock.Provider, held lock.Grant, rdb *redis.Client) {
	t.Helper()
	rdb = harness.Redis(t)
	url = fmt.Sprintf("redis://%s/%d", rdb.Options().Addr, rdb.Options().DB)
	opt, err := redislock.Options(url)
	require.NoError(t, err)
	client := redis.NewClient(opt)
	t.Cleanup(func() { _ = client.Close() })
	for _, environment := range []string{"prod", "default"} {
		require.NoError(t, rdb.Set(t.Context(), "job-epoch:"+environment, "1", 0).Err())
		locks, err = redislock.New(client, redislock.Config{Environment: environment})
		require.NoError(t, err)
		held, err = locks.Acquire(t.Context(), locktest.NewRequest("report", time.Minute))
		require.NoError(t, err)
	}
	require.NoError(t, rdb.Set(t.Context(), "job-lock:default:java", "ADDED:2026-11-22T10:00:00.000Z@tomcat", time.Hour).Err())
	return url, locks, held, rdb
}

func TestJobsLocks_ShowThoseInRedisToo(t *testing.T) {
	t.Parallel()
	url, _, _, rdb := locksInRedis(t)
	got := run(t, nil, "jobs", "locks", "--redis", url)
	require.Zero(t, got.code, got.stderr)
	require.Regexp(t, `(?m)^LOCK +STATE +HOLDER +SINCE +UNTIL +LEFT +FENCE +KEPT IN\n`+
		`java +held +ADDED:\S+@tomcat +2026-11-22T10:00:00Z +\S+Z +\S+ +0 +redis job-lock:default:java\n`+
		`report +held +ADDED:\S+ +\S+Z +\S+Z +\S+ +\d{16} +redis job-lock:default:report\n`+
		`report +held +ADDED:\S+ +\S+Z +\S+Z +\S+ +\d{16} +redis job-lock:prod:report\n$`, got.out)

	db := harness.NewDatabase(t)
	_, err := db.DB.Exec(`INSERT INTO shedlock (name, lock_until, locked_at, locked_by) VALUES ('row', '2026-01-01', '2026-01-01', 'tomcat')`)
	require.NoError(t, err)
	env := map[string]string{"DATABASE_URL": db.DSN, "REDIS_URL": url}
	got = run(t, env, "jobs", "locks", "--environment", "prod", "--json")
	require.Zero(t, got.code, got.stderr)
	var all []struct{ Name, Store, Environment, Key string }
	require.NoError(t, json.Unmarshal([]byte(got.out), &all))
	require.Equal(t, []struct{ Name, Store, Environment, Key string }{
		{Name: "row", Store: "postgres"}, {"report", "redis", "prod", "job-lock:prod:report"},
	}, all)
	require.NotContains(t, run(t, env, "jobs", "locks", "--held").out, "row")

	env["REDIS_URL"] = "redis://127.0.0.1:1/0"
	got = run(t, env, "jobs", "locks")
	require.Equal(t, 1, got.code, "one store is shown, the other complained about")
	require.Contains(t, got.out, "row")
	require.Contains(t, got.stderr, "redis at 127.0.0.1:1 does not answer")
	require.NoError(t, rdb.FlushDB(t.Context()).Err())
	require.Equal(t, "no locks\n", run(t, nil, "jobs", "locks", "--redis", url).out)
}

func TestJobsUnlock_FreesALockInRedis(t *testing.T) {
	t.Parallel()
	url, locks, held, rdb := locksInRedis(t)
	unlock := func(args ...string) outcome {
		return run(t, nil, append([]string{"jobs", "unlock", "--job", "report", "--redis", url}, args...)...)
	}
	dry := unlock()
	require.Zero(t, dry.code, dry.stderr)
	require.Equal(t, fmt.Sprintf("would free report in redis under job-lock:default:report, held by %s since %s, fence %d\n",
		held.Owner, held.Owner[len("ADDED:"):][:19]+"Z", held.Fence), dry.out)
	require.Contains(t, dry.stderr, "give --yes")
	require.Contains(t, dry.stderr, "not in job_audit")
	require.NoError(t, locks.Renew(t.Context(), held, time.Minute))

	db := harness.NewDatabase(t)
	done := unlock("--postgres", db.DSN, "--note", "stuck", "--yes", "--json")
	require.Zero(t, done.code, done.stderr)
	var report struct {
		DryRun  bool `json:"dry_run"`
		Audited bool
		Lock    struct{ Owner, Store, Environment string }
	}
	require.NoError(t, json.Unmarshal([]byte(done.out), &report))
	require.Equal(t, []any{false, true, held.Owner, "redis", "default"}, []any{report.DryRun, report.Audited, report.Lock.Owner, report.Lock.Store, report.Lock.Environment})
	require.ErrorIs(t, locks.Renew(t.Context(), held, time.Minute), lock.ErrLost)
	var note, detail string
	require.NoError(t, db.DB.QueryRow(`SELECT note, detail FROM job_audit WHERE action = 'unlock' AND name = 'report'`).Scan(&note, &detail))
	require.Equal(t, "stuck", note)
	require.Contains(t, detail, held.Owner)
	require.EqualValues(t, 1, rdb.Exists(t.Context(), "job-lock:prod:report").Val(), "that of another environment")

	none := unlock("--yes")
	require.Equal(t, 1, none.code)
	require.Contains(t, none.stderr, "nobody holds the lock report in the environment default of redis")
	done = unlock("--environment", "prod", "--yes")
	require.Zero(t, done.code, done.stderr)
	require.Contains(t, done.stderr, "not in job_audit")
	require.Zero(t, rdb.Exists(t.Context(), "job-lock:prod:report").Val())
}

// With both stores it frees the lock where it is held, and asks if that is not clear.
func TestJobsUnlock_FindsTheStore(t *testing.T) {
	t.Parallel()
	url, _, held, rdb := locksInRedis(t)
	db := harness.NewDatabase(t)
	env := map[string]string{"DATABASE_URL": db.DSN, "REDIS_URL": url}
	rows, err := lock.NewPostgres(db.DB)
	require.NoError(t, err)
	hold := func(name string) {
		_, err := rows.Acquire(context.Background(), locktest.NewRequest(name, time.Minute))
		require.NoError(t, err)
	}
	hold("report")
	hold("row")
	both := run(t, env, "jobs", "unlock", "--job", "report", "--yes")
	require.Equal(t, 1, both.code)
	require.Contains(t, both.stderr, "by "+held.Owner+" in redis: say which with --store")

	got := run(t, env, "jobs", "unlock", "--job", "report", "--store", "postgres", "--yes")
	require.Zero(t, got.code, got.stderr)
	require.EqualValues(t, 1, rdb.Exists(t.Context(), "job-lock:default:report").Val())
	for job, where := range map[string]string{"report": "redis under job-lock:default:report", "row": "row, held by"} {
		got := run(t, env, "jobs", "unlock", "--job", job, "--yes")
		require.Zero(t, got.code, got.stderr)
		require.Contains(t, got.out, where)
		require.Empty(t, got.stderr)
	}
	got = run(t, env, "jobs", "unlock", "--job", "report", "--yes")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "nobody holds the lock report in postgres, nor in the environment default of redis")

	env["REDIS_URL"] = "redis://127.0.0.1:1/0"
	hold("row")
	got = run(t, env, "jobs", "unlock", "--job", "row")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "--store postgres")
	require.Zero(t, run(t, env, "jobs", "unlock", "--job", "row", "--store", "postgres").code)
}

func TestJobsLocks_RefuseWrongUse(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"locks"}, {"unlock", "--job", "x"}, {"unlock", "--redis", "redis://127.0.0.1:1/0"},
		{"unlock", "--job", "x", "--redis", "redis://127.0.0.1:1/0", "--store", "memory"},
		{"unlock", "--job", "x", "--redis", "redis://127.0.0.1:1/0", "--store", "postgres"},
	} {
		got := run(t, nil, append([]string{"jobs"}, args...)...)
		require.Equal(t, 2, got.code, "%v: %s", args, got.stderr)
	}
}
