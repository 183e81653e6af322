package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

// run keeps a store's watch and link until the test ends.
func run(t testing.TB, s *cache.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// openNear returns a cache with a near layer on rdb's database, kept fresh.
func openNear(t testing.TB, rdb *redis.Client, tb *table, near cache.NearConfig, y *tally) *cache.Versioned[thing] {
	t.Helper()
	s := newStore(t, rdb, cache.StoreConfig{Hooks: y.hooks()})
	c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{Near: &near})
	run(t, s)
	return c
}

// warm reads id until the near layer answers.
func warm(t testing.TB, c *cache.Versioned[thing], y *tally, id string) {
	t.Helper()
	require.Eventually(t, func() bool {
		before := y.of("near")
		_, err := c.Get(t.Context(), id)
		return err == nil && y.of("near") > before
	}, 2*time.Minute, time.Millisecond)
}

func TestNear_AnswersByItselfAndIsToldOfChanges(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	tb, y := newTable(), &tally{}
	c := openNear(t, client(t, rdb), tb, cache.NearConfig{Staleness: 20 * time.Second}, y)
	elsewhere := newVersioned(t, newStore(t, client(t, rdb), cache.StoreConfig{}), tb.load, cache.VersionedConfig[thing]{})
	tb.commit("a")
	warm(t, c, y, "a")
	hits := y.of("hit")
	for range 10 {
		got, err := c.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, named("a", 1), got)
	}
	require.Equal(t, hits, y.of("hit"), "Redis was not asked")

	for _, change := range []func(){
		func() { _, _ = elsewhere.Put(t.Context(), "a", tb.commit("a")) },
		func() { tb.commit("a"); _ = elsewhere.Invalidate(t.Context(), "a") },
		func() { tb.commit("a"); rdb.Del(t.Context(), "thing:a") },
		func() { tb.commit("a"); rdb.FlushDB(t.Context()) },
	} {
		warm(t, c, y, "a")
		change()
		want, _ := tb.row("a")
		require.Eventually(t, func() bool { got, err := c.Get(t.Context(), "a"); return err == nil && got == want.Value }, 2*time.Minute, time.Millisecond)
	}
	warm(t, c, y, "a")
	last := tb.commit("a")
	_, err := c.Put(t.Context(), "a", last)
	require.NoError(t, err)
	got, err := c.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, last.Value, got, "what this process put shows at once")
	require.NoError(t, c.Revoke(t.Context(), "a", last.Version+1, time.Now().Add(time.Minute)))
	_, err = c.Get(t.Context(), "a")
	require.ErrorIs(t, err, cache.ErrRevoked)
}

func TestNear_IsNotUsedUntilTheStoreRuns(t *testing.T) {
	t.Parallel()
	tb, y := newTable(), &tally{}
	s := newStore(t, client(t, harness.Redis(t)), cache.StoreConfig{Hooks: y.hooks()})
	c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{Near: &cache.NearConfig{Staleness: time.Second}})
	tb.commit("a")
	for range 10 {
		_, err := c.Get(t.Context(), "a")
		require.NoError(t, err)
	}
	require.Zero(t, y.of("near"))
	require.Equal(t, 9, y.of("hit"))
}

func TestNear_IsBounded(t *testing.T) {
	t.Parallel()
	tb, y := newTable(), &tally{}
	c := openNear(t, client(t, harness.Redis(t)), tb, cache.NearConfig{Staleness: 20 * time.Second, Entries: 64}, y)
	for i := range 1000 {
		tb.commit(fmt.Sprint(i))
	}
	warm(t, c, y, "0")
	for range 2 {
		for i := range 1000 {
			_, err := c.Get(t.Context(), fmt.Sprint(i))
			require.NoError(t, err)
		}
	}
	before := y.of("near")
	for i := range 1000 {
		_, err := c.Get(t.Context(), fmt.Sprint(i))
		require.NoError(t, err)
	}
	require.LessOrEqual(t, y.of("near")-before, 64)
}

func TestNear_TakesMoreCachesWhileItRuns(t *testing.T) {
	t.Parallel()
	tb, y := newTable(), &tally{}
	s := newStore(t, client(t, harness.Redis(t)), cache.StoreConfig{Hooks: y.hooks()})
	run(t, s)
	for _, name := range []string{"one", "two"} {
		c, err := cache.NewVersioned(s, name, tb.load, cache.VersionedConfig[thing]{TTL: time.Minute, Near: &cache.NearConfig{Staleness: 20 * time.Second}})
		require.NoError(t, err)
		tb.commit("a")
		warm(t, c, y, "a")
	}
}

// deafConn is a connection that, once it turned out to be the near link, can stop
// hearing anything, as one does whose path broke silently.
type deafConn struct {
	net.Conn
	deaf   *atomic.Bool
	isLink atomic.Bool
}

func (c *deafConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("millrace-near")) {
		c.isLink.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *deafConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.isLink.Load() || !c.deaf.Load() {
			return n, err
		}
	}
}

// The link dies without a sign, and Redis works: no invalidation ever arrives.
func TestNear_IsNeverOlderThanItsStalenessWhenTheLinkIsSilent(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	tb, y, deaf := newTable(), &tally{}, &atomic.Bool{}
	opt := &redis.Options{Addr: rdb.Options().Addr, DB: rdb.Options().DB}
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &deafConn{Conn: c, deaf: deaf}, err
	}
	const staleness = time.Second
	c := openNear(t, clientOf(t, opt), tb, cache.NearConfig{Staleness: staleness}, y)
	elsewhere := newVersioned(t, newStore(t, client(t, rdb), cache.StoreConfig{}), tb.load, cache.VersionedConfig[thing]{})
	for round := range 3 {
		id := fmt.Sprint(round)
		tb.commit(id)
		deaf.Store(false)
		warm(t, c, y, id)
		deaf.Store(true)
		next := tb.commit(id)
		_, err := elsewhere.Put(t.Context(), id, next)
		require.NoError(t, err)
		changed := time.Now()
		stale := 0
		for time.Since(changed) <= staleness {
			got, err := c.Get(t.Context(), id)
			require.NoError(t, err)
			if got != next.Value {
				stale++
			}
		}
		got, err := c.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, next.Value, got, "stale for longer than promised")
		t.Logf("round %d: stale %d times within %s", round, stale, staleness)
	}
	deaf.Store(false)
	warm(t, c, y, "0") // and it comes back
}

// Redis cannot be reached at all.
func TestNear_IsNeverOlderThanItsStalenessWhenRedisIsAway(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	proxy := harness.NewProxy(t, rdb.Options().Addr)
	tb, y := newTable(), &tally{}
	const staleness = 500 * time.Millisecond
	c := openNear(t, clientOf(t, &redis.Options{Addr: proxy.Addr(), DB: rdb.Options().DB}), tb, cache.NearConfig{Staleness: staleness}, y)
	tb.commit("a")
	warm(t, c, y, "a")
	proxy.Blackhole()
	changed := time.Now()
	next := tb.commit("a")
	require.Eventually(t, func() bool { return time.Since(changed) > staleness }, 2*time.Minute, time.Millisecond)
	got, err := c.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, next.Value, got)
	require.NoError(t, proxy.Heal())
	elsewhere := newVersioned(t, newStore(t, client(t, rdb), cache.StoreConfig{}), tb.load, cache.VersionedConfig[thing]{})
	_, err = elsewhere.Put(t.Context(), "a", next)
	require.NoError(t, err)
	warm(t, c, y, "a")
}

// Where there is no client tracking, the layer stays off and all else works.
func TestNear_StaysOffWhereRedisCannotTrack(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Twin: true})
	tb, y := newTable(), &tally{}
	c := openNear(t, clientOf(t, &redis.Options{Addr: r.Addr()}), tb, cache.NearConfig{Staleness: time.Second}, y)
	tb.commit("a")
	require.Eventually(t, func() bool {
		got, err := c.Get(t.Context(), "a")
		y.mu.Lock()
		defer y.mu.Unlock()
		return err == nil && got == named("a", 1) && len(y.trouble) > 0
	}, 2*time.Minute, 5*time.Millisecond)
	require.Zero(t, y.of("near"))
}

// Readers of one process, with a layer so small that entries come and go, while
// writers elsewhere put: no reader goes back.
func TestNear_ReadersDoNotGoBack(t *testing.T) {
	t.Parallel()
	rdb := harness.Redis(t)
	tb, y := newTable(), &tally{}
	c := openNear(t, client(t, rdb), tb, cache.NearConfig{Staleness: 5 * time.Second, Entries: 1}, y)
	elsewhere := newVersioned(t, newStore(t, client(t, rdb), cache.StoreConfig{}), tb.load, cache.VersionedConfig[thing]{})
	const ids = 4
	for i := range ids {
		tb.commit(fmt.Sprint(i))
	}
	warm(t, c, y, "0")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			var seen [ids]int64
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				e, err := c.GetEntry(t.Context(), fmt.Sprint(i%ids))
				if err != nil || e.Version < seen[i%ids] || e.Value.N != e.Version {
					t.Errorf("saw %d, then %d (%v)", seen[i%ids], e.Version, err)
					return
				}
				seen[i%ids] = e.Version
			}
		})
	}
	for i := range 3000 {
		id := fmt.Sprint(i % ids)
		_, err := elsewhere.Put(t.Context(), id, tb.commit(id))
		require.NoError(t, err)
		if i%100 == 0 {
			rdb.Del(t.Context(), "thing:"+id)
		}
	}
	close(stop)
	readers.Wait()
	require.Positive(t, y.of("near"))
}
