package views_test

import (
	"context"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache/rebuild"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/test/harness"
)

// restartable is a log with views in a Redis server of its own, which keeps what it
// has over a restart.
func restartable(t *testing.T) (*logged, *harness.RedisServer) {
	t.Helper()
	server, err := harness.StartRedis(t.Context(), harness.RedisConfig{Real: true, Durable: true, Settings: map[string]string{"appendfsync": "everysec"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
	l := newLogged(t)
	opt, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	l.rdb = redis.NewClient(opt)
	t.Cleanup(func() { _ = l.rdb.Close() })
	return l, server
}

// A server that was started again may have lost the end of what it had written, and
// with it an event that was applied to the generation behind the fold. So nobody
// goes on with that generation.
func TestRebuild_StartsOverWhenRedisWasStartedAgain(t *testing.T) {
	t.Parallel()
	l, server := restartable(t)
	l.fill(t, 300) // 600 events
	part, err := l.rebuilder(t, views.Status, rebuild.Config{To: 400}).Run(t.Context())
	require.NoError(t, err)
	l.lose(t, part.Generation, l.newest(t)[0].id)
	plan, err := l.rebuilder(t, views.Status, rebuild.Config{}).Plan(t.Context())
	require.NoError(t, err)
	require.True(t, plan.Resumed)

	require.NoError(t, server.Restart(t.Context()))
	for _, name := range everyView {
		res, err := l.rebuilder(t, name, rebuild.Config{}).Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, []any{false, true, int64(600)}, []any{res.Resumed, res.Flipped, res.Events})
	}
	require.Zero(t, l.generation(t, views.Status, part.Generation), "it is removed")
	l.agrees(t)
}

// lose deletes the status of a notification from a generation.
func (l *logged) lose(t *testing.T, generation, id string) {
	t.Helper()
	l.rdb.Del(t.Context(), "view:notification:"+generation+":{"+id+"}")
}

// The same while the fold is at work: it gets to the end, and does not let the
// generation answer.
func TestRebuild_DoesNotFlipWhenRedisWasStartedAgainMeanwhile(t *testing.T) {
	t.Parallel()
	l, server := restartable(t)
	l.fill(t, 300)
	before := l.generations(t, views.Status).Live
	var once sync.Once
	res, err := l.rebuilder(t, views.Status, rebuild.Config{Batch: 100, OnProgress: func(r rebuild.Result) {
		once.Do(func() {
			if err := server.Restart(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}}).Run(t.Context())
	require.ErrorContains(t, err, "started again meanwhile")
	require.False(t, res.Flipped)
	require.EqualValues(t, 601, res.Next, "it had got to the end")
	require.Equal(t, before, l.generations(t, views.Status).Live)
	res, err = l.rebuilder(t, views.Status, rebuild.Config{}).Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, []any{false, true, int64(600)}, []any{res.Resumed, res.Flipped, res.Events})
}
