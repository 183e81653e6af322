package cache_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// thing is what the tests cache.
type thing struct {
	Name string `json:"name"`
	N    int64  `json:"n"`
}

func named(id string, version int64) thing { return thing{Name: id, N: version} }

// table is a database of things. It counts the loads.
type table struct {
	mu    sync.Mutex
	rows  map[string]cache.Entry[thing]
	loads atomic.Int64
	atNow atomic.Int64
	most  atomic.Int64
	fail  atomic.Pointer[error]
	// reading, if set, is called between a load's start and its reading, and
	// before its return with what it read.
	before, after func(ctx context.Context, id string)
}

func newTable() *table { return &table{rows: map[string]cache.Entry[thing]{}} }

// commit writes the next version and returns it.
func (tb *table) commit(id string) cache.Entry[thing] {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	v := tb.rows[id].Version + 1
	tb.rows[id] = cache.Found(v, named(id, v))
	return tb.rows[id]
}

// set writes the row as it is given.
func (tb *table) set(id string, e cache.Entry[thing]) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.rows[id] = e
}

func (tb *table) remove(id string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	delete(tb.rows, id)
}

func (tb *table) row(id string) (cache.Entry[thing], bool) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	e, ok := tb.rows[id]
	return e, ok
}

func (tb *table) load(ctx context.Context, id string) (cache.Entry[thing], error) {
	tb.loads.Add(1)
	n := tb.atNow.Add(1)
	defer tb.atNow.Add(-1)
	for m := tb.most.Load(); n > m && !tb.most.CompareAndSwap(m, n); m = tb.most.Load() {
	}
	if tb.before != nil {
		tb.before(ctx, id)
	}
	if err := tb.fail.Load(); err != nil {
		return cache.Entry[thing]{}, *err
	}
	e, ok := tb.row(id)
	if tb.after != nil {
		tb.after(ctx, id)
	}
	if err := ctx.Err(); err != nil {
		return cache.Entry[thing]{}, err
	}
	if !ok {
		return cache.Entry[thing]{}, fmt.Errorf("thing %s: %w", id, cache.ErrNotFound)
	}
	return e, nil
}

// client returns one more client on the server and database of rdb, which answers:
// however busy the machine is, the client waits for it longer than a cache would.
func client(t testing.TB, like *redis.Client) *redis.Client {
	t.Helper()
	return clientOf(t, &redis.Options{
		Addr: like.Options().Addr, DB: like.Options().DB, PoolSize: 250,
		Dialer: lab.DialPatiently,
	})
}

// clientOf returns a client that waits as long as a cache may, a second.
func clientOf(t testing.TB, opt *redis.Options) *redis.Client {
	t.Helper()
	cache.Harden(opt)
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = time.Second, time.Second, time.Second, time.Second
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newStore(t testing.TB, rdb *redis.Client, cfg cache.StoreConfig) *cache.Store {
	t.Helper()
	s, err := cache.NewStore(rdb, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newVersioned(t testing.TB, s *cache.Store, load cache.Load[thing], cfg cache.VersionedConfig[thing]) *cache.Versioned[thing] {
	t.Helper()
	if cfg.TTL == 0 {
		cfg.TTL = time.Minute
	}
	c, err := cache.NewVersioned(s, "thing", load, cfg)
	require.NoError(t, err)
	return c
}

// open returns a cache of tb in a Redis database of the test's own.
func open(t testing.TB, tb *table, cfg cache.StoreConfig) (*cache.Versioned[thing], *redis.Client) {
	t.Helper()
	rdb := harness.Redis(t)
	return newVersioned(t, newStore(t, client(t, rdb), cfg), tb.load, cache.VersionedConfig[thing]{}), rdb
}

// soon is what comes next, which must not take long.
func soon[T any](t testing.TB, from <-chan T) (next T) {
	t.Helper()
	select {
	case next = <-from:
	case <-time.After(2 * time.Minute):
		require.Fail(t, "nothing comes")
	}
	return next
}

// clock is a clock that stands still.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// tally counts hooks.
type tally struct {
	mu      sync.Mutex
	counts  map[string]int
	trouble []error
}

func (y *tally) add(what string, n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.counts == nil {
		y.counts = map[string]int{}
	}
	y.counts[what] += n
}

func (y *tally) of(what string) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.counts[what]
}

func (y *tally) hooks() cache.Hooks {
	return cache.Hooks{
		Requested:  func(_ string, result cache.Result) { y.add(string(result), 1) },
		Loaded:     func(cache.LoadInfo) { y.add("load", 1) },
		Put:        func(p cache.PutInfo) { y.add("put "+string(p.Result), p.N) },
		Overloaded: func(string) { y.add("overloaded", 1) },
		Breaker:    func(open bool, _ error) { y.add(fmt.Sprintf("breaker %t", open), 1) },
		Flushed:    func() { y.add("flushed", 1) },
		Warning:    func(string) { y.add("warning", 1) },
		Trouble: func(_ string, err error) {
			y.mu.Lock()
			defer y.mu.Unlock()
			y.trouble = append(y.trouble, err)
		},
	}
}
