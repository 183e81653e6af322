package redislock_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/locktest"
	"github.com/millrace-go/millrace/adapters/schedule/lock/redislock"
	"github.com/millrace-go/millrace/test/harness"
)

// More locks than one page of a scan, among other keys; those of one environment
// do not depend on what its name means in a pattern.
func TestRedisOperator_ListsAllLocksAndNothingElse(t *testing.T) {
	t.Parallel()
	client := harness.Redis(t)
	pipe := client.Pipeline()
	for i := range 2500 {
		pipe.Set(t.Context(), fmt.Sprintf("job-lock:default:j:%04d", i), "ADDED:2026-11-22T10:00:00.000Z@tomcat", time.Hour)
		pipe.Set(t.Context(), fmt.Sprintf("view:%d", i), "x", 0)
	}
	pipe.Set(t.Context(), "job-lock:ever:a", "somebody", 0)
	pipe.Set(t.Context(), "job-lock:a*:b:c", "v", time.Hour)
	pipe.Set(t.Context(), "job-lock:ab:b", "v", time.Hour)
	pipe.HSet(t.Context(), "job-lock:default:hash", "a", "b")
	pipe.Set(t.Context(), "job-fence:default:j:0007", "42", 0)
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)

	list := func(environment string) []lock.State {
		o, err := redislock.NewOperator(client, redislock.OperatorConfig{Environment: environment})
		require.NoError(t, err)
		all, err := o.Locks(t.Context())
		require.NoError(t, err)
		return all
	}
	all := list("")
	require.Len(t, all, 2503)
	require.Equal(t, "b:c", all[0].Name)
	seventh := list("default")[7]
	require.WithinDuration(t, time.Now().Add(time.Hour), seventh.Until, time.Minute)
	require.InDelta(t, time.Hour.Seconds(), seventh.Left.Seconds(), 60)
	seventh.Until, seventh.Left = time.Time{}, 0
	require.Equal(t, lock.State{
		Name: "j:0007", Held: true, Owner: "ADDED:2026-11-22T10:00:00.000Z@tomcat", Since: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Fence: 42,
		Store: "redis", Environment: "default", Key: "job-lock:default:j:0007",
	}, seventh)
	ever := list("ever")
	require.Equal(t, []lock.State{{Name: "a", Held: true, Owner: "somebody", Store: "redis", Environment: "ever", Key: "job-lock:ever:a"}}, ever)
	require.Len(t, list("a*"), 1)
	require.Equal(t, "c", list("a*:b")[0].Name, "an environment with a colon")
	require.Empty(t, list("none"))
}

// The holder is cancelled, its guarded writes are refused at once, the next holder
// has them, and it is written down who did it.
func TestRedisOperator_UnlockTakesTheLockAndTheGuardAway(t *testing.T) {
	t.Parallel()
	client, db := harness.Redis(t), harness.NewDatabase(t)
	grown(t, client, "prod")
	locks := redisLocks(t, client.Options(), redislock.Config{Environment: "prod"})
	o, err := redislock.NewOperator(client, redislock.OperatorConfig{Environment: "prod", DB: db.DB})
	require.NoError(t, err)
	_, err = o.Unlock(t.Context(), "a", "ada@host", "")
	require.ErrorIs(t, err, lock.ErrNoSuchLock)
	guard := func(g lock.Grant) error {
		tx, err := db.DB.Begin()
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Commit()) }()
		return locks.Guard(t.Context(), tx, g)
	}
	for round := range 2 { // the second holder has been seen by the guard, the first has not
		g, err := locks.Acquire(t.Context(), locktest.NewRequest("a", time.Minute))
		require.NoError(t, err)
		if round > 0 {
			require.NoError(t, guard(g))
		}
		was, err := o.Unlock(t.Context(), "a", "ada@host", "stuck")
		require.NoError(t, err)
		require.Equal(t, []any{g.Owner, g.Fence, true}, []any{was.Owner, was.Fence, was.Held})
		require.ErrorIs(t, locks.Renew(t.Context(), g, time.Minute), lock.ErrLost)
		require.ErrorIs(t, guard(g), lock.ErrLost)
	}
	g, err := locks.Acquire(t.Context(), locktest.NewRequest("a", time.Minute))
	require.NoError(t, err)
	require.NoError(t, guard(g), "the next holder")
	var acts int
	require.NoError(t, db.DB.QueryRow(`SELECT count(*) FROM job_audit
		WHERE actor = 'ada@host' AND action = 'unlock' AND name = 'a' AND note = 'stuck' AND detail LIKE 'held by ADDED:% in redis under job-lock:prod:a, fence %'`).Scan(&acts))
	require.Equal(t, 2, acts)
}

// A guarded transaction that is open is waited for, but not for long, and then
// nothing has changed.
func TestRedisOperator_UnlockDoesNotBreakIntoAGuardedTransaction(t *testing.T) {
	t.Parallel()
	client, db := harness.Redis(t), harness.NewDatabase(t)
	grown(t, client, "default")
	locks := redisLocks(t, client.Options(), redislock.Config{})
	o, err := redislock.NewOperator(client, redislock.OperatorConfig{DB: db.DB})
	require.NoError(t, err)
	g, err := locks.Acquire(t.Context(), locktest.NewRequest("a", time.Minute))
	require.NoError(t, err)
	tx, err := db.DB.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	require.NoError(t, locks.Guard(t.Context(), tx, g))
	_, err = o.Unlock(t.Context(), "a", "ada@host", "")
	require.ErrorContains(t, err, "guarded transaction open: try again")
	require.NoError(t, locks.Renew(t.Context(), g, time.Minute))
	require.NoError(t, tx.Commit())
	_, err = o.Unlock(t.Context(), "a", "ada@host", "")
	require.NoError(t, err)
	require.ErrorIs(t, locks.Renew(t.Context(), g, time.Minute), lock.ErrLost)
}

// overtaken lets somebody else have the lock just before a script runs.
type overtaken struct{ take func() }

func (o overtaken) DialHook(next redis.DialHook) redis.DialHook { return next }

func (o overtaken) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (o overtaken) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") {
			o.take()
		}
		return next(ctx, cmd)
	}
}

func TestRedisOperator_UnlockLeavesTheLockToAHolderThatCameMeanwhile(t *testing.T) {
	t.Parallel()
	direct := harness.Redis(t)
	key := "job-lock:default:a"
	require.NoError(t, direct.Set(t.Context(), key, "first", time.Minute).Err())
	client := redisClient(t, direct.Options().Addr, direct.Options().DB)
	client.AddHook(overtaken{func() { require.NoError(t, direct.Set(t.Context(), key, "second", time.Minute).Err()) }})
	o, err := redislock.NewOperator(client, redislock.OperatorConfig{})
	require.NoError(t, err)
	was, err := o.Unlock(t.Context(), "a", "ada@host", "")
	require.ErrorIs(t, err, lock.ErrNoSuchLock)
	require.Equal(t, "first", was.Owner)
	require.Equal(t, "second", direct.Get(t.Context(), key).Val())
}
