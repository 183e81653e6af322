package schedule_test

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/locktest"
	"github.com/millrace-go/millrace/test/harness"
)

// TestMain runs the tests, or a node of them in a process of its own.
func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		os.Exit(runRole(role))
	}
	harness.Main(m)
}

func TestPostgresLocks_KeepToTheSuite(t *testing.T) {
	t.Parallel()
	locktest.Exercise(t, func(t *testing.T) locktest.Locks {
		db := harness.NewDatabase(t)
		return locktest.Locks{DB: db.DB, Open: func(t *testing.T) (one, other schedule.LockProvider) {
			return postgresLocks(t, db), prepared(t, postgresLocks(t, db))
		}}
	})
}

func TestRedisLocks_KeepToTheSuite(t *testing.T) {
	t.Parallel()
	locktest.Exercise(t, func(t *testing.T) locktest.Locks {
		client := harness.Redis(t)
		return locktest.Locks{DB: harness.NewDatabase(t).DB, Open: func(t *testing.T) (one, other schedule.LockProvider) {
			grown(t, client, "default")
			return redisLocks(t, client.Options(), schedule.RedisConfig{}), redisLocks(t, client.Options(), schedule.RedisConfig{})
		}}
	})
}

func TestMemoryLocks_KeepToTheSuite(t *testing.T) {
	t.Parallel()
	locktest.Exercise(t, func(t *testing.T) locktest.Locks {
		return locktest.Locks{DB: harness.NewDatabase(t).DB, Open: func(t *testing.T) (one, other schedule.LockProvider) {
			locks := schedule.NewMemoryLocks()
			return locks, locks
		}}
	})
}

func postgresLocks(t *testing.T, db *harness.Database) *schedule.PostgresLocks {
	t.Helper()
	locks, err := schedule.NewPostgresLocks(db.DB)
	require.NoError(t, err)
	require.NoError(t, locks.Check(t.Context()))
	return locks
}

func prepared(t *testing.T, locks *schedule.PostgresLocks) *schedule.PostgresLocks {
	t.Helper()
	require.NoError(t, locks.Prepare(t.Context()))
	t.Cleanup(func() { require.NoError(t, locks.Close()) })
	return locks
}

// redisLocks opens locks through a client of their own at o's address.
func redisLocks(t *testing.T, o *redis.Options, cfg schedule.RedisConfig) *schedule.RedisLocks {
	t.Helper()
	locks, err := schedule.NewRedisLocks(redisClient(t, o.Addr, o.DB), cfg)
	require.NoError(t, err)
	return locks
}

func redisClient(t *testing.T, addr string, db int) *redis.Client {
	t.Helper()
	o, err := schedule.RedisOptions("redis://" + addr)
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
