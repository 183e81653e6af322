package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

// Redis goes away with version 1, and what comes then it does not hear of. When
// it is back, its version 1 is not an answer to this process any more.
func TestTrap_RedisComesBackWithEntriesOfBefore(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(t *testing.T, c *cache.Versioned[thing], tb *table){
		"a reader was told by the database": func(t *testing.T, c *cache.Versioned[thing], tb *table) {
			tb.commit("a")
			e, err := c.GetEntry(t.Context(), "a")
			require.NoError(t, err)
			require.EqualValues(t, 2, e.Version)
		},
		"a put did not arrive": func(t *testing.T, c *cache.Versioned[thing], tb *table) {
			_, err := c.Put(t.Context(), "a", tb.commit("a"))
			require.ErrorIs(t, err, cache.ErrUnavailable)
		},
		"an invalidation did not arrive": func(t *testing.T, c *cache.Versioned[thing], tb *table) {
			tb.commit("a")
			require.ErrorIs(t, c.Invalidate(t.Context(), "a"), cache.ErrUnavailable)
		},
		"a reader was told that it is gone": func(t *testing.T, c *cache.Versioned[thing], tb *table) {
			tb.remove("a")
			_, err := c.Get(t.Context(), "a")
			require.ErrorIs(t, err, cache.ErrNotFound)
			tb.set("a", cache.Found(2, named("a", 2)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := harness.Redis(t)
			proxy := harness.NewProxy(t, rdb.Options().Addr)
			tb, y := newTable(), &tally{}
			s := newStore(t, clientOf(t, &redis.Options{Addr: proxy.Addr(), DB: rdb.Options().DB}),
				cache.StoreConfig{BreakerProbe: time.Millisecond, Hooks: y.hooks()})
			c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{})
			tb.commit("a")
			_, err := c.Get(t.Context(), "a")
			require.NoError(t, err)
			proxy.Cut()
			meanwhile(t, c, tb)
			require.NoError(t, proxy.Heal())
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			for hits := y.of("hit"); y.of("hit") == hits; {
				e, err := c.GetEntry(ctx, "a")
				require.NoError(t, err)
				require.EqualValues(t, 2, e.Version, "Redis was not told, and yet believed")
			}
		})
	}
}
