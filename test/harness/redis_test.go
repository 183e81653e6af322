package harness_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

func redisClient(t *testing.T, r *harness.RedisServer) *redis.Client {
	t.Helper()
	opt, err := redis.ParseURL(r.URL())
	require.NoError(t, err)
	opt.ContextTimeoutEnabled = true
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRedis_PausedIsSilentAndRecovers(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	c := redisClient(t, r)
	require.NoError(t, r.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Ping(ctx).Err(), context.DeadlineExceeded)
	require.NoError(t, r.Resume())
	require.NoError(t, c.Ping(t.Context()).Err())
}

func TestRedis_KeepsDataOverAKillOnlyIfDurable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg  harness.RedisConfig
		kept int64
	}{
		"durable": {harness.RedisConfig{Real: true, Durable: true}, 1},
		"not":     {harness.RedisConfig{Real: true}, 0},
		"twin":    {harness.RedisConfig{Twin: true}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := harness.PrivateRedis(t, tc.cfg)
			require.NoError(t, redisClient(t, r).Set(t.Context(), "k", "v", 0).Err())
			require.NoError(t, r.Kill())
			require.Error(t, redisClient(t, r).Ping(t.Context()).Err())
			require.NoError(t, r.Start(t.Context()))
			require.Equal(t, tc.kept, redisClient(t, r).Exists(t.Context(), "k").Val())
		})
	}
}

func TestRedis_TwinsKeysExpireByTheClock(t *testing.T) {
	t.Parallel()
	c := redisClient(t, harness.PrivateRedis(t, harness.RedisConfig{Twin: true}))
	require.NoError(t, c.Set(t.Context(), "k", "v", 100*time.Millisecond).Err())
	require.Eventually(t, func() bool { return c.Exists(t.Context(), "k").Val() == 0 }, 2*time.Minute, 10*time.Millisecond)
}
