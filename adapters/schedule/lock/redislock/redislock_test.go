package redislock_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/locktest"
	"github.com/millrace-go/millrace/adapters/schedule/lock/redislock"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestRedisLocks_KeepToTheSuite(t *testing.T) {
	t.Parallel()
	locktest.Exercise(t, func(t *testing.T) locktest.Locks {
		client := harness.Redis(t)
		return locktest.Locks{DB: harness.NewDatabase(t).DB, Open: func(t *testing.T) (one, other lock.Provider) {
			grown(t, client, "default")
			return redisLocks(t, client.Options(), redislock.Config{}), redisLocks(t, client.Options(), redislock.Config{})
		}}
	})
}

// redisLocks opens locks through a client of their own at o's address.
func redisLocks(t *testing.T, o *redis.Options, cfg redislock.Config) lock.Provider {
	t.Helper()
	locks, err := redislock.New(redisClient(t, o.Addr, o.DB), cfg)
	require.NoError(t, err)
	return locks
}

func redisClient(t *testing.T, addr string, db int) *redis.Client {
	t.Helper()
	o, err := redislock.Options("redis://" + addr)
	require.NoError(t, err)
	o.DB = db
	client := redis.NewClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// grown makes Redis one that has known all locks for long enough.
func grown(t *testing.T, client *redis.Client, environment string) {
	t.Helper()
	require.NoError(t, client.Set(t.Context(), "job-epoch:"+environment, "1", 0).Err())
}
