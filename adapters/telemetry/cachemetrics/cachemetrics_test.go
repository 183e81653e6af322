package cachemetrics_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/telemetry/cachemetrics"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestMetrics_CountWhatACacheDoes(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m, err := cachemetrics.New(reg)
	require.NoError(t, err)
	_, err = cachemetrics.New(reg)
	require.Error(t, err)

	shared := harness.Redis(t).Options()
	opt := cache.Options(shared.Addr)
	opt.DB, opt.ReadTimeout = shared.DB, time.Second
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	s, err := cache.NewStore(rdb, cache.StoreConfig{Hooks: m.Hooks()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	c, err := cache.NewVersioned(s, "orders", func(_ context.Context, id string) (cache.Entry[int], error) {
		if id == "broken" {
			return cache.Entry[int]{}, errors.New("no database")
		}
		return cache.Found(2, 7), nil
	}, cache.VersionedConfig[int]{TTL: time.Minute})
	require.NoError(t, err)
	for range 3 {
		_, err = c.Get(t.Context(), "a")
		require.NoError(t, err)
	}
	_, err = c.Get(t.Context(), "broken")
	require.Error(t, err)
	_, err = c.Put(t.Context(), "a", cache.Found(1, 6))
	require.NoError(t, err)
	require.NoError(t, rdb.Set(t.Context(), "orders:b", "rubbish", 0).Err())
	_, err = c.Get(t.Context(), "b")
	require.NoError(t, err)
	m.Hooks().Breaker(true, nil)
	m.Hooks().Flushed()
	m.Hooks().Overloaded("orders")

	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP cache_breaker_state 1 while Redis is left alone after errors, else 0.
# TYPE cache_breaker_state gauge
cache_breaker_state 1
# HELP cache_corrupt_total Entries that could not be read, and were removed.
# TYPE cache_corrupt_total counter
cache_corrupt_total{cache="orders"} 1
# HELP cache_flush_detected_total How often Redis was found to have lost its data.
# TYPE cache_flush_detected_total counter
cache_flush_detected_total 1
# HELP cache_load_errors_total Loads from the database that did not work.
# TYPE cache_load_errors_total counter
cache_load_errors_total{cache="orders"} 1
# HELP cache_overloaded_total Loads that found no room in time.
# TYPE cache_overloaded_total counter
cache_overloaded_total{cache="orders"} 1
# HELP cache_put_total Entries put or filled: stored, older, absent (nothing to refresh), refused (lease or generation lost), error.
# TYPE cache_put_total counter
cache_put_total{cache="orders",result="older"} 1
cache_put_total{cache="orders",result="stored"} 2
# HELP cache_requests_total Reads, by what Redis had to say: hit, near, miss, negative, revoked, corrupt, error.
# TYPE cache_requests_total counter
cache_requests_total{cache="orders",result="corrupt"} 1
cache_requests_total{cache="orders",result="hit"} 2
cache_requests_total{cache="orders",result="miss"} 2
`), "cache_breaker_state", "cache_corrupt_total", "cache_flush_detected_total", "cache_load_errors_total", "cache_overloaded_total", "cache_put_total", "cache_requests_total"))
	require.Equal(t, 1, testutil.CollectAndCount(reg, "cache_load_seconds"))
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}
