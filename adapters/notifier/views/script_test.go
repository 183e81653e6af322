package views_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/views"
)

// A server that restarted has forgotten its scripts. On an in-process server,
// because forgetting would disturb other tests on a shared one.
func TestPut_SendsTheScriptAgainWhenRedisForgotIt(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	v := newViews(t, rdb, nothing, views.Config{})
	for range 2 {
		id, events := history(t, 2, time.Now())
		done, err := v.Apply(t.Context(), events...)
		require.NoError(t, err)
		require.Equal(t, 1, done.Stored)
		_, err = v.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
		require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
	}
}

func TestViews_ReportAServerThatIsAway(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DialerRetries: 1, DialTimeout: 200 * time.Millisecond})
	t.Cleanup(func() { _ = rdb.Close() })
	v := newViews(t, rdb, nothing, views.Config{})
	server.Close()
	id, events := history(t, 1, time.Now())
	done, err := v.Apply(t.Context(), events...)
	require.Error(t, err)
	require.Zero(t, done.Stored)
	_, err = v.NotificationStatus(t.Context(), id)
	require.Error(t, err)
	require.ErrorContains(t, err, string(id))
}
