package main

import (
	"encoding/json"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

// rebuilt is what rebuild --json prints.
type rebuilt struct {
	View, Generation       string
	DryRun                 bool `json:"dry_run"`
	Resumed, Flipped       bool
	From, To, Next, Events int64
	Removed                string
	PerSecond              float64 `json:"events_per_s"`
}

func redisURL(rdb *redis.Client) string {
	return fmt.Sprintf("redis://%s/%d", rdb.Options().Addr, rdb.Options().DB)
}

// requests writes n notifications by plain SQL.
func requests(t *testing.T, db *harness.Database, n int) {
	t.Helper()
	_, err := db.DB.ExecContext(t.Context(), `
INSERT INTO outbox (topic, key, aggregate_type, aggregate_id, aggregate_version, event_type, headers, payload)
SELECT 'notification.v1', 'ada', 'notification', 'n-' || i, 1, 'notification.requested', '{"schema-version": "1"}',
  convert_to(json_build_object('notification_id', 'n-' || i, 'recipient', 'ada', 'channel', 'email', 'subject', 's', 'requested_at', now(), 'body', 'b')::text, 'UTF8')
FROM generate_series(1, $1) i`, n)
	require.NoError(t, err)
}

func TestRebuild_SaysThenDoesThenAnswers(t *testing.T) {
	t.Parallel()
	db, rdb := harness.NewDatabase(t, migrations.Lines()...), harness.Redis(t)
	env := map[string]string{"DATABASE_URL": db.DSN, "REDIS_URL": redisURL(rdb)}
	requests(t, db, 500)
	rebuild := func(args ...string) (r rebuilt) {
		got := run(t, env, append([]string{"rebuild", "notification", "--json"}, args...)...)
		require.Zero(t, got.code, got.stderr)
		require.NoError(t, json.Unmarshal([]byte(got.out), &r))
		return r
	}
	dry := rebuild()
	require.Equal(t, rebuilt{View: "notification", DryRun: true, From: 1, To: 500, Next: 1}, dry)
	require.Empty(t, rdb.Keys(t.Context(), "*").Val(), "a dry run changes nothing")

	part := rebuild("--to", "200", "--yes")
	require.False(t, part.Flipped)
	require.EqualValues(t, 200, part.Events)
	got := run(t, env, "rebuild", "notification", "--abort")
	answers := rdb.HGet(t.Context(), "view:notification:generation", "live").Val()
	require.Equal(t, "would remove generation "+part.Generation+" of notification\ngeneration "+answers+" answers, before and after\n", got.out)
	require.Contains(t, got.stderr, "give --yes")
	rest := rebuild("--yes")
	require.True(t, rest.Resumed && rest.Flipped)
	require.Equal(t, []any{part.Generation, int64(300), int64(501)}, []any{rest.Generation, rest.Events, rest.Next})
	require.Positive(t, rest.PerSecond)
	require.NotEmpty(t, rest.Removed)

	for _, id := range []string{"n-1", "n-200", "n-201", "n-500"} {
		e, err := cache.Inspect(t.Context(), rdb, "view:notification:"+rest.Generation+":{"+id+"}")
		require.NoError(t, err)
		require.EqualValues(t, 1, e.Version)
		require.Contains(t, string(e.Payload), `"status":"requested"`)
	}
	rebuild("--to", "200", "--yes")
	require.Contains(t, run(t, env, "rebuild", "notification", "--abort", "--yes").out, "removed generation")
	got = run(t, env, "rebuild", "notification", "--abort", "--yes")
	require.Equal(t, "view notification has no unfinished generation\ngeneration "+rest.Generation+" answers, before and after\n", got.out)

	require.NoError(t, rdb.HSet(t.Context(), "view:notification:generation", "ended:former", "1").Err(), "as if a rebuild had been killed at the end")
	for args, out := range map[string]string{
		"--yes=false": `{"view": "notification", "dry_run": true, "removed": "", "former": ["former"], "answers": "` + rest.Generation + `"}`,
		"--yes":       `{"view": "notification", "dry_run": false, "removed": "", "former": ["former"], "answers": "` + rest.Generation + `"}`,
	} {
		got = run(t, env, "rebuild", "notification", "--abort", "--json", args)
		require.Zero(t, got.code, got.stderr)
		require.JSONEq(t, out, got.out)
		require.NoError(t, rdb.HSet(t.Context(), "view:notification:generation", "ended:former", "1").Err())
	}
	got = run(t, env, "rebuild", "notification", "--abort")
	require.Contains(t, got.out, "would remove what is left of the former generation former\n")
	require.Contains(t, got.stderr, "nothing was changed")
}

// Where lines cannot be rewritten the command tells now and then how far it is.
func TestRebuild_TellsHowFarItIs(t *testing.T) {
	t.Parallel()
	db, rdb := harness.NewDatabase(t, migrations.Lines()...), harness.Redis(t)
	requests(t, db, 500)
	got := run(t, map[string]string{"DATABASE_URL": db.DSN, "REDIS_URL": redisURL(rdb)}, "rebuild", "notification", "--batch", "100", "--yes")
	require.Zero(t, got.code, got.stderr)
	require.Regexp(t, `(?m)^rebuild notification: position 100 of 500, \d+ events a second$`, got.stderr)
}

func TestRebuild_GoesOnAfterAnInterruption(t *testing.T) {
	t.Parallel()
	db, rdb := harness.NewDatabase(t, migrations.Lines()...), harness.Redis(t)
	env := map[string]string{"DATABASE_URL": db.DSN, "REDIS_URL": redisURL(rdb)}
	requests(t, db, 20_000)
	c := start(t, env, "rebuild", "notification", "--batch", "20", "--yes")
	require.Eventually(t, func() bool {
		n, _ := rdb.HGet(t.Context(), "view:notification:generation", "position").Int64()
		return n > 1
	}, 2*time.Minute, time.Millisecond)
	got := c.signal(t, syscall.SIGTERM)
	require.Equal(t, 143, got.code)
	require.Contains(t, got.stderr, "to go on, give the same command again")
	got = run(t, env, "rebuild", "notification", "--yes", "--json")
	require.Zero(t, got.code, got.stderr)
	var r rebuilt
	require.NoError(t, json.Unmarshal([]byte(got.out), &r))
	require.True(t, r.Resumed && r.Flipped)
	require.Less(t, r.Events, int64(20_000))
}

func TestRebuild_RefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	env := map[string]string{"DATABASE_URL": "postgres://localhost/none", "REDIS_URL": "redis://localhost:1/0"}
	for problem, args := range map[string][]string{
		`there is no view "nonsense": the views are notification, recipient, counters`: {"nonsense"},
		"rebuild needs the name of one view: notification, recipient, counters":        {},
	} {
		got := run(t, env, append([]string{"rebuild"}, args...)...)
		require.Equal(t, 2, got.code, got.stderr)
		require.Contains(t, got.stderr, problem)
	}
	got := run(t, nil, "rebuild", "counters")
	require.Equal(t, 2, got.code)
	require.Contains(t, got.stderr, "postgres: must be given: --postgres or DATABASE_URL")
	require.Contains(t, got.stderr, "redis: must be given: --redis or REDIS_URL")
	got = run(t, env, "rebuild", "counters")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "does not answer")
	env["DATABASE_URL"], env["REDIS_URL"] = harness.NewDatabase(t, migrations.Lines()...).DSN, redisURL(harness.Redis(t))
	got = run(t, env, "rebuild", "counters", "--from", "7", "--to", "3")
	require.Equal(t, 2, got.code)
	require.Contains(t, got.stderr, "To: must be at least From 7, is 3")
}

func TestRebuild_RefusesALogThatHasLostItsBeginning(t *testing.T) {
	t.Parallel()
	db, rdb := harness.NewDatabase(t, migrations.Lines()...), harness.Redis(t)
	env := map[string]string{"DATABASE_URL": db.DSN, "REDIS_URL": redisURL(rdb)}
	_, err := db.DB.ExecContext(t.Context(), `SELECT setval('outbox_position_seq', 4000100); DROP TABLE outbox_p0`)
	require.NoError(t, err)
	requests(t, db, 10)
	got := run(t, env, "rebuild", "counters", "--yes")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "give 4000101 as first position")
	require.Zero(t, run(t, env, "rebuild", "counters", "--from", "4000101", "--yes").code)
}
