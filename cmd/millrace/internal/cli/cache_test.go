package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

// cached returns a Redis of the test's own with one entry of version 3, under
// "order:7", and the number of loads so far.
func cached(t *testing.T) (url string, orders *cache.Versioned[string], rdb *redis.Client, loads *int) {
	t.Helper()
	shared := harness.Redis(t).Options()
	opt := cache.Options(shared.Addr)
	opt.DB, opt.ReadTimeout = shared.DB, time.Second
	rdb = redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	store, err := cache.NewStore(rdb, cache.StoreConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	loads = new(int)
	orders, err = cache.NewVersioned(store, "order", func(context.Context, string) (cache.Entry[string], error) {
		*loads++
		return cache.Found(3, "paid"), nil
	}, cache.VersionedConfig[string]{TTL: time.Minute})
	require.NoError(t, err)
	_, err = orders.Get(t.Context(), "7")
	require.NoError(t, err)
	return fmt.Sprintf("redis://%s/%d", shared.Addr, shared.DB), orders, rdb, loads
}

func TestCacheInspect_ShowsAnEntry(t *testing.T) {
	t.Parallel()
	url, orders, rdb, _ := cached(t)
	got := run(t, nil, "cache", "inspect", "order:7", "--redis", url, "--json")
	require.Zero(t, got.code, got.stderr)
	var e map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.out), &e))
	require.Equal(t, []any{true, 3.0, "live", 6.0, 0.0}, []any{e["stored"], e["version"], e["state"], e["payload_bytes"], e["filling_seconds"]})
	require.Positive(t, e["left_seconds"])
	require.Positive(t, e["load_seconds"])
	require.NotContains(t, got.out, "paid")
	got = run(t, nil, "cache", "inspect", "order:7", "--redis", url, "--payload")
	require.Zero(t, got.code, got.stderr)
	require.Contains(t, got.out, `"paid"`)
	require.Contains(t, got.out, "loaded in")

	require.NoError(t, orders.Revoke(t.Context(), "7", 4, time.Now().Add(time.Hour)))
	require.NoError(t, rdb.Set(t.Context(), "lease:order:7", "somebody", time.Minute).Err())
	got = run(t, nil, "cache", "inspect", "order:7", "--redis", url)
	require.Regexp(t, `STATE +revoked`, got.out)
	require.Contains(t, got.out, "somebody is")

	got = run(t, nil, "cache", "inspect", "order:8", "--redis", url)
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "nothing is stored under order:8")
	require.NoError(t, rdb.Set(t.Context(), "other", "thing", 0).Err())
	got = run(t, nil, "cache", "inspect", "other", "--redis", url)
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "it is not an entry of a cache")
}

func TestCacheInvalidate_ActsOnlyWithYes(t *testing.T) {
	t.Parallel()
	url, orders, rdb, loads := cached(t)
	got := run(t, nil, "cache", "invalidate", "order:7", "--redis", url)
	require.Zero(t, got.code, got.stderr)
	require.Contains(t, got.out, "would invalidate version 3 (live) of order:7")
	require.Contains(t, got.stderr, "give --yes")
	_, err := orders.Get(t.Context(), "7")
	require.NoError(t, err)
	require.Equal(t, 1, *loads)

	got = run(t, nil, "cache", "invalidate", "order:7", "--redis", url, "--yes", "--json")
	require.Zero(t, got.code, got.stderr)
	require.JSONEq(t, `{"dry_run":false,"key":"order:7","version":3,"forgotten":false}`, got.out)
	require.Regexp(t, `STATE +invalidated`, run(t, nil, "cache", "inspect", "order:7", "--redis", url).out)
	stored, err := orders.Put(t.Context(), "7", cache.Found(2, "open"))
	require.NoError(t, err)
	require.False(t, stored, "the version is kept")
	_, err = orders.Get(t.Context(), "7")
	require.NoError(t, err)
	require.Equal(t, 2, *loads)

	got = run(t, nil, "cache", "invalidate", "order:7", "--forget", "--redis", url, "--yes")
	require.Zero(t, got.code, got.stderr)
	require.Zero(t, rdb.Exists(t.Context(), "order:7").Val())
	got = run(t, nil, "cache", "invalidate", "order:7", "--redis", url, "--yes")
	require.Equal(t, 1, got.code)
	require.NoError(t, rdb.Set(t.Context(), "other", "thing", 0).Err())
	got = run(t, nil, "cache", "invalidate", "other", "--redis", url, "--yes")
	require.Equal(t, 1, got.code)
	require.EqualValues(t, 1, rdb.Exists(t.Context(), "other").Val(), "what is not an entry is left alone")
}

func TestCacheInvalidate_BeginsAGenerationOfAQuery(t *testing.T) {
	t.Parallel()
	url, _, rdb, _ := cached(t)
	got := run(t, nil, "cache", "invalidate", "--query", "open orders", "--redis", url)
	require.Zero(t, got.code, got.stderr)
	require.Empty(t, rdb.Keys(t.Context(), "q:*").Val())
	got = run(t, nil, "cache", "invalidate", "--query", "open orders", "--schema-version", "2", "--redis", url, "--yes")
	require.Zero(t, got.code, got.stderr)
	require.Contains(t, got.out, rdb.Get(t.Context(), "q:open%20orders:2:gen").Val())
}

func TestCache_RefusesWrongUse(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"cache", "inspect"}, {"cache", "inspect", "a", "b"}, {"cache", "invalidate"}, {"cache", "invalidate", "a", "--query", "b"},
		{"cache", "invalidate", "--query", "b", "--forget"},
	} {
		got := run(t, nil, append(args, "--redis", "redis://127.0.0.1:1/0")...)
		require.Equal(t, 2, got.code, "%v: %s", args, got.stderr)
	}
	got := run(t, nil, "cache", "inspect", "a", "--redis", "redis://127.0.0.1:1/0")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "redis at 127.0.0.1:1 does not answer")
}

func TestBenchCache_ComparesWithABareGet(t *testing.T) {
	t.Parallel()
	got := run(t, nil, "bench", "cache", "--reads", "200", "--puts", "1000", "--readers", "50", "--rounds", "2", "--keys", "20", "--flush-rate", "300", "--flush-for", "1s", "--json")
	require.Zero(t, got.code, got.stderr)
	var report struct {
		Ratios    map[string]float64
		Loads     int                `json:"stampede_loads"`
		Puts      float64            `json:"put_if_newer_per_s"`
		Near      map[string]float64 `json:"near_hit_us"`
		Stampedes []struct {
			Name          string
			Loads, Failed []int
		}
		Results []struct {
			Name      string
			P50       *spread `json:"p50_us"`
			PerSecond spread  `json:"per_s"`
		}
		Flush   map[string]float64
		Servers map[string]string
		Machine map[string]any
		Config  map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(got.out), &report), got.out)
	require.EqualValues(t, 600, report.Flush["requests"])
	require.Zero(t, report.Flush["failed"])
	require.EqualValues(t, 6, report.Flush["flushes"])
	require.LessOrEqual(t, report.Flush["peak_loads"], 32.0)
	require.GreaterOrEqual(t, report.Flush["loads"], 600.0, "each round begins cold, and asks for each key once")
	require.Positive(t, report.Flush["p99_ms"])
	for _, ratio := range []string{"hit_p50_vs_get", "hit_p99_vs_get", "go_redis_cache_p50_vs_hit", "put_if_newer_vs_pipeline_set", "query_hit_p50_vs_get", "hit_p50_vs_get_decode"} {
		require.Positive(t, report.Ratios[ratio], ratio)
	}
	require.Equal(t, 1, report.Loads)
	require.Positive(t, report.Puts)
	require.Positive(t, report.Near["p50"])
	require.Len(t, report.Stampedes, 2)
	require.Equal(t, []int{0, 0}, report.Stampedes[0].Failed)
	var names []string
	for _, r := range report.Results {
		names = append(names, r.Name)
		r.PerSecond.holds(t, 2, r.Name)
		if r.P50 != nil {
			r.P50.holds(t, 2, r.Name)
		}
	}
	require.Equal(t, []string{"get", "get_decode", "hit", "query_hit", "go_redis_cache_hit", "near_hit", "put_if_newer", "pipeline_set"}, names)
	require.Contains(t, report.Servers, "redis")
	require.NotEmpty(t, report.Machine)
	require.NotEmpty(t, report.Config)
}
