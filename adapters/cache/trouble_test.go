package cache_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

// traffic reads things from several goroutines, as requests do, until it is
// stopped. Whatever Redis does, each must get the thing, and never an older one
// than it got before.
type traffic struct {
	stop    chan struct{}
	readers sync.WaitGroup
	reads   atomic.Int64
	mu      sync.Mutex
	wrong   []string
}

// begin starts readers of the ids below n, all of which exist.
func begin(t testing.TB, c *cache.Versioned[thing], readers, n int) *traffic {
	tr := &traffic{stop: make(chan struct{})}
	for r := range readers {
		tr.readers.Go(func() { tr.read(t, c, r, n) })
	}
	t.Cleanup(tr.end)
	return tr
}

func (tr *traffic) read(t testing.TB, c *cache.Versioned[thing], r, n int) {
	seen := make([]int64, n)
	for i := r; ; i++ {
		select {
		case <-tr.stop:
			return
		default:
		}
		at := i % n
		e, err := c.GetEntry(context.WithoutCancel(t.Context()), strconv.Itoa(at))
		tr.reads.Add(1)
		if err != nil || e.State != cache.Live || e.Version < seen[at] || e.Value != named(strconv.Itoa(at), e.Version) {
			tr.mu.Lock()
			tr.wrong = append(tr.wrong, fmt.Sprintf("%d: after version %d: %+v, %v", at, seen[at], e, err))
			tr.mu.Unlock()
			t.Errorf("%d: after version %d: %+v, %v", at, seen[at], e, err)
			return
		}
		seen[at] = e.Version
		if i%16 == 0 {
			pauseALittle() // so that a test machine can do something else, too
		}
	}
}

func (tr *traffic) end() {
	select {
	case <-tr.stop:
	default:
		close(tr.stop)
	}
	tr.readers.Wait()
}

// fine ends the traffic and fails unless all requests got what they should.
func (tr *traffic) fine(t testing.TB) {
	t.Helper()
	tr.end()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	require.Empty(t, tr.wrong)
	require.Positive(t, tr.reads.Load())
}

// more waits until n more requests were answered.
func (tr *traffic) more(t testing.TB, n int64) {
	t.Helper()
	until := tr.reads.Load() + n
	require.Eventually(t, func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return tr.reads.Load() >= until || len(tr.wrong) > 0
	}, 2*time.Minute, time.Millisecond)
}

// eventually waits until what has happened so many times more.
func eventually(t testing.TB, y *tally, what string, more int) {
	t.Helper()
	before := y.of(what)
	harness.Await(t, 2*time.Minute, fmt.Sprintf("%d times %q", more, what), func(context.Context) error {
		if y.of(what) >= before+more {
			return nil
		}
		y.mu.Lock()
		defer y.mu.Unlock()
		return fmt.Errorf("was %d, happened: %v; last trouble: %w", before, y.counts, errors.Join(y.trouble[max(0, len(y.trouble)-3):]...))
	})
}

// reached waits until what has happened at all.
func reached(t testing.TB, y *tally, what string) {
	t.Helper()
	require.Eventually(t, func() bool { return y.of(what) > 0 }, 2*time.Minute, time.Millisecond, what)
}

const troubled = 40 // things in these tests

func newTroubled(t testing.TB, addr string, cfg cache.StoreConfig) (*cache.Versioned[thing], *table, *tally, *cache.Store) {
	tb, y := newTable(), &tally{}
	for i := range troubled {
		tb.commit(strconv.Itoa(i))
	}
	cfg.Hooks = y.hooks()
	rdb := redis.NewClient(cache.Options(addr))
	t.Cleanup(func() { _ = rdb.Close() })
	s := newStore(t, rdb, cfg)
	return newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{}), tb, y, s
}

func TestTrouble_SlowRedis(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	proxy := harness.NewProxy(t, r.Addr())
	c, tb, y, s := newTroubled(t, proxy.Addr(), cache.StoreConfig{BreakerProbe: 50 * time.Millisecond})
	tr := begin(t, c, 4, troubled)
	tr.more(t, 500)
	proxy.Delay(400 * time.Millisecond)
	reached(t, y, "breaker true")
	before := tb.loads.Load()
	tr.more(t, 500)
	require.Greater(t, tb.loads.Load(), before, "the database answers")
	require.NoError(t, proxy.Heal())
	reached(t, y, "breaker false")
	eventually(t, y, "hit", 100)
	tr.fine(t)
	require.False(t, s.Status().BreakerOpen)
}

func TestTrouble_PausedRedisComesBackWithOldEntries(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	c, tb, y, _ := newTroubled(t, r.Addr(), cache.StoreConfig{BreakerProbe: 50 * time.Millisecond})
	tr := begin(t, c, 4, troubled)
	tr.more(t, 500)
	require.NoError(t, r.Pause())
	reached(t, y, "breaker true")
	for i := range troubled { // and nobody can tell Redis
		tb.commit(strconv.Itoa(i))
	}
	tr.more(t, 20*troubled)
	require.NoError(t, r.Resume())
	reached(t, y, "breaker false")
	tr.more(t, 20*troubled)
	eventually(t, y, "hit", 100)
	tr.fine(t)
	for i := range troubled {
		e, err := c.GetEntry(t.Context(), strconv.Itoa(i))
		require.NoError(t, err)
		require.EqualValues(t, 2, e.Version, "what was read while Redis was away counts")
	}
}

func TestTrouble_RedisIsDownAndRestarts(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	c, tb, y, s := newTroubled(t, r.Addr(), cache.StoreConfig{BreakerProbe: 50 * time.Millisecond, WatchInterval: 10 * time.Millisecond})
	run(t, s)
	tr := begin(t, c, 4, troubled)
	tr.more(t, 500)
	reached(t, y, "warning") // the watch has seen Redis: it warns that there is no maxmemory
	require.NoError(t, r.Kill())
	reached(t, y, "breaker true")
	require.True(t, s.Status().BreakerOpen)
	tr.more(t, 200)
	_, err := c.Put(t.Context(), "0", tb.commit("0"))
	require.ErrorIs(t, err, cache.ErrUnavailable, "a writer is told")
	_, err = c.Get(t.Context(), "none")
	require.ErrorIs(t, err, cache.ErrNotFound, "the database can say that there is none")
	tr.fine(t)
	broken := errors.New("the database is away as well")
	tb.fail.Store(&broken)
	_, err = c.Get(t.Context(), "none")
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, cache.ErrNotFound, "nobody else can")
	tb.fail.Store(nil)
	tr = begin(t, c, 2, troubled)
	require.NoError(t, r.Start(t.Context()))
	eventually(t, y, "hit", 100)
	require.Eventually(t, func() bool { return y.of("flushed") > 0 }, 2*time.Minute, time.Millisecond, "it came back empty")
	tr.fine(t)
}

func TestTrouble_RestartedRedis(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true, Durable: true})
	c, _, y, s := newTroubled(t, r.Addr(), cache.StoreConfig{BreakerProbe: 50 * time.Millisecond, WatchInterval: 10 * time.Millisecond})
	run(t, s)
	tr := begin(t, c, 4, troubled)
	tr.more(t, 500)
	for range 3 {
		require.NoError(t, r.Restart(t.Context()))
		eventually(t, y, "hit", 100)
	}
	tr.fine(t)
	require.Zero(t, y.of("flushed"), "it kept its data")
}

// 2,000 requests a second, and Redis loses everything, again and again.
func TestTrouble_FlushedRedisDoesNotStampedeTheDatabase(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	tb, y := newTable(), &tally{}
	s := newStore(t, clientOf(t, &redis.Options{Addr: r.Addr()}), cache.StoreConfig{
		Hooks: y.hooks(), WatchInterval: 5 * time.Millisecond, MaxLoads: 32, LoadWait: time.Minute, // the machine may be busy
	})
	c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{})
	run(t, s)
	reached(t, y, "warning") // the watch has seen Redis
	const things, perSecond = 500, 2000
	for i := range things {
		tb.commit(strconv.Itoa(i))
	}
	tb.after = func(context.Context, string) { <-time.After(5 * time.Millisecond) }
	rdb := clientOf(t, &redis.Options{Addr: r.Addr()})
	var requests sync.WaitGroup
	var failed atomic.Int64
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := range 300 { // three seconds, if the machine has the time
		if n%75 == 40 {
			before := y.of("flushed")
			require.NoError(t, rdb.FlushAll(t.Context()).Err())
			require.Eventually(t, func() bool { return y.of("flushed") > before }, 2*time.Minute, time.Millisecond)
		}
		for i := range perSecond / 100 {
			requests.Go(func() {
				id := strconv.Itoa((n*37 + i*11) % things)
				if got, err := c.Get(t.Context(), id); err != nil || got.Name != id {
					failed.Add(1)
					t.Error(id, got, err)
				}
			})
		}
		<-tick.C
	}
	requests.Wait()
	require.Zero(t, failed.Load(), "of 6,000 requests")
	require.LessOrEqual(t, tb.most.Load(), int64(32), "loads at once")
	require.LessOrEqual(t, s.Status().PeakLoading, 32)
	require.Equal(t, y.of("flushed"), s.Status().Flushes)
	t.Logf("%d loads, at most %d at once, for 6,000 requests and %d flushes", tb.loads.Load(), tb.most.Load(), s.Status().Flushes)
}

// limitMemory leaves the server room for about more bytes.
func limitMemory(t testing.TB, rdb *redis.Client, policy string, more int64) {
	t.Helper()
	text, err := rdb.Info(t.Context(), "memory").Result()
	require.NoError(t, err)
	_, rest, _ := strings.Cut(text, "used_memory:")
	number, _, _ := strings.Cut(rest, "\r")
	used, err := strconv.ParseInt(number, 10, 64)
	require.NoError(t, err)
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory-policy", policy).Err())
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", strconv.FormatInt(used+more, 10)).Err())
}

func TestTrouble_FullRedisKeepsWhatItHasUpToDate(t *testing.T) {
	t.Parallel()
	r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	rdb := clientOf(t, &redis.Options{Addr: r.Addr()})
	c, tb, y, s := newTroubled(t, r.Addr(), cache.StoreConfig{})
	for i := range troubled / 2 {
		_, err := c.Get(t.Context(), strconv.Itoa(i))
		require.NoError(t, err)
	}
	limitMemory(t, rdb, "noeviction", -1)
	require.ErrorContains(t, rdb.Set(t.Context(), "more", 1, 0).Err(), "OOM")

	for i := range troubled {
		id := strconv.Itoa(i)
		got, err := c.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, named(id, 1), got)
	}
	for i := range troubled / 2 {
		id := strconv.Itoa(i)
		stored, err := c.Put(t.Context(), id, tb.commit(id))
		require.NoError(t, err, "what is there is replaced: better a little over the limit than out of date")
		require.True(t, stored)
		got, err := c.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, named(id, 2), got)
	}
	for i := troubled / 2; i < troubled; i++ {
		id := strconv.Itoa(i)
		_, err := c.Put(t.Context(), id, tb.commit(id))
		require.ErrorIs(t, err, cache.ErrUnavailable, "what is new has no room, and a writer is told")
		stored, err := c.Refresh(t.Context(), id, tb.commit(id))
		require.NoError(t, err)
		require.False(t, stored)
		got, err := c.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, named(id, 3), got)
	}
	require.NoError(t, c.Invalidate(t.Context(), "0"))
	require.NoError(t, c.Revoke(t.Context(), "1", 100, time.Now().Add(time.Minute)))
	_, err := c.Get(t.Context(), "1")
	require.ErrorIs(t, err, cache.ErrRevoked)
	require.Zero(t, y.of("breaker true"), "reading works")
	limitMemory(t, rdb, "noeviction", 1<<30)
	for range 2 {
		_, err := c.Get(t.Context(), strconv.Itoa(troubled-1))
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, rdb.Exists(t.Context(), "thing:"+strconv.Itoa(troubled-1)).Val(), "once there is room it is filled in")
	require.LessOrEqual(t, s.Status().PeakLoading, 1)
}

func TestTrouble_EvictingRedis(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"allkeys-random", "allkeys-lru", "volatile-ttl"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			r := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
			rdb := clientOf(t, &redis.Options{Addr: r.Addr()})
			c, tb, _, _ := newTroubled(t, r.Addr(), cache.StoreConfig{})
			tr := begin(t, c, 4, troubled)
			tr.more(t, 200) // all connections are there
			limitMemory(t, rdb, policy, 2<<20)
			ballast := strings.Repeat("x", 20_000)
			for n := range 600 {
				require.NoError(t, rdb.Set(t.Context(), "ballast:"+strconv.Itoa(n), ballast, time.Hour).Err())
				id := strconv.Itoa(n % troubled)
				event := tb.commit(id)
				harness.Await(t, 2*time.Minute, "Redis to take it", func(ctx context.Context) error {
					_, err := c.Refresh(ctx, id, event)
					return err
				})
			}
			tr.more(t, 200)
			tr.fine(t)
			text, err := rdb.Info(t.Context(), "stats").Result()
			require.NoError(t, err)
			require.NotContains(t, text, "evicted_keys:0\r")
			for i := range troubled {
				want, _ := tb.row(strconv.Itoa(i))
				got, err := c.Get(t.Context(), strconv.Itoa(i))
				require.NoError(t, err)
				require.Equal(t, want.Value, got)
			}
		})
	}
}

// The master dies, and for a while there is only a replica that takes no writes;
// then it is the master. The address changes as it does with Sentinel.
func TestTrouble_FailingOver(t *testing.T) {
	t.Parallel()
	old := harness.PrivateRedis(t, harness.RedisConfig{Real: true})
	_, port, err := net.SplitHostPort(old.Addr())
	require.NoError(t, err)
	next := harness.PrivateRedis(t, harness.RedisConfig{Real: true, Settings: map[string]string{"replicaof": "127.0.0.1 " + port, "repl-diskless-sync-delay": "0"}})
	var master atomic.Pointer[string]
	addr := old.Addr()
	master.Store(&addr)
	opt := cache.Options("the master")
	opt.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, *master.Load())
	}
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	tb, y := newTable(), &tally{}
	s := newStore(t, rdb, cache.StoreConfig{Hooks: y.hooks(), BreakerProbe: 50 * time.Millisecond})
	c := newVersioned(t, s, tb.load, cache.VersionedConfig[thing]{Near: &cache.NearConfig{Staleness: 300 * time.Millisecond}})
	run(t, s)
	for i := range troubled {
		tb.commit(strconv.Itoa(i))
	}
	replica := clientOf(t, &redis.Options{Addr: next.Addr()})
	require.Eventually(t, func() bool {
		text, err := replica.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(text, "master_link_status:up")
	}, 2*time.Minute, 10*time.Millisecond)
	tr := begin(t, c, 4, troubled)
	tr.more(t, 500)
	require.Eventually(t, func() bool { return replica.DBSize(t.Context()).Val() > troubled }, 2*time.Minute, time.Millisecond, "the replica has it all")

	require.NoError(t, old.Kill())
	addr2 := next.Addr()
	master.Store(&addr2)
	tr.more(t, 200)
	eventually(t, y, "hit", 10) // of the replica
	require.Eventually(t, func() bool {
		_, err := c.Put(t.Context(), "0", tb.commit("0"))
		return redis.HasErrorPrefix(err, "READONLY")
	}, 2*time.Minute, time.Millisecond)
	want, _ := tb.row("0")
	got, err := c.Get(t.Context(), "0")
	require.NoError(t, err)
	require.Equal(t, want.Value, got, "what could not be put is loaded")

	require.NoError(t, replica.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
	require.Eventually(t, func() bool {
		stored, err := c.Put(t.Context(), "0", tb.commit("0"))
		return err == nil && stored
	}, 2*time.Minute, 10*time.Millisecond)
	tr.more(t, 200)
	tr.fine(t)
}
