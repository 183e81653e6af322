package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/test/harness"
)

// race is many processes, each with caches of its own, on one Redis and one
// database, and somebody who destroys what Redis has.
type race struct {
	t      *testing.T
	m      *model
	rdb    *redis.Client
	caches []*cache.Versioned[thing] // of a process each
	seed   uint64

	proxy *harness.Proxy // between Redis and the second process

	at    int          // how far the projection is, in the log
	left  atomic.Int64 // operations to go
	done  map[string]*atomic.Int64
	wrong atomic.Int64
}

const (
	raceIDs       = 40
	raceProcesses = 4 // the first with a near layer, the second with a bad line to Redis
	raceStaleness = 300 * time.Millisecond
)

// Readers, writers, a projection that delivers twice and out of order, deletes,
// evictions, flushes and lost connections, all at random: no reader may ever go
// back, nor get what is older than Redis had heard of when it asked (a near layer:
// a Staleness before), and after all events were delivered nothing may be stale.
// MILLRACE_CHECKER_OPERATIONS sets how long it goes on, MILLRACE_SEED repeats a
// run's random choices (not its schedule).
func TestRace_NobodyGoesBackAndNothingStaysStale(t *testing.T) {
	t.Parallel()
	operations, seed := int64(60_000), rand.Uint64()
	var err error
	if text := os.Getenv("MILLRACE_CHECKER_OPERATIONS"); text != "" {
		operations, err = strconv.ParseInt(text, 10, 64)
		require.NoError(t, err)
	}
	if text := os.Getenv("MILLRACE_SEED"); text != "" {
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("seed %d, %d operations", seed, operations)
	r := newRace(t, seed, operations)
	r.run()
	r.quiet()
	for what, n := range r.done {
		t.Logf("%-10s %d", what, n.Load())
	}
}

func newRace(t *testing.T, seed uint64, operations int64) *race {
	rdb := harness.Redis(t)
	r := &race{t: t, m: newModel(raceIDs, lockedRand(seed)), rdb: client(t, rdb), seed: seed, done: map[string]*atomic.Int64{}}
	for _, what := range []string{"read", "write", "delete", "project", "evict", "flush", "invalidate", "cut"} {
		r.done[what] = &atomic.Int64{}
	}
	r.left.Store(operations)
	r.proxy = harness.NewProxy(t, rdb.Options().Addr)
	for i := range raceProcesses {
		own := client(t, rdb)
		if i == 1 {
			own = clientOf(t, &redis.Options{Addr: r.proxy.Addr(), DB: rdb.Options().DB})
		}
		s := newStore(t, own, cache.StoreConfig{LeaseWait: 100 * time.Millisecond, WatchInterval: 50 * time.Millisecond, BreakerProbe: 20 * time.Millisecond})
		cfg := cache.VersionedConfig[thing]{TTL: 2 * time.Second, NegativeTTL: time.Second, TombstoneTTL: 2 * time.Second}
		if i == 0 {
			cfg.Near = &cache.NearConfig{Staleness: raceStaleness, Entries: 64}
		}
		r.caches = append(r.caches, newVersioned(t, s, r.m.load, cfg))
		run(t, s)
	}
	return r
}

// repeat repeats act as long as there are operations to go.
func (r *race) repeat(all *sync.WaitGroup, who uint64, act func(rng *rand.Rand) (what string, n int, err error)) {
	all.Go(func() {
		rng := rand.New(rand.NewPCG(r.seed, 100+who))
		for r.left.Load() > 0 && r.wrong.Load() == 0 {
			what, n, err := act(rng)
			if err != nil {
				r.fail("%s: %v", what, err)
				return
			}
			r.left.Add(-int64(n))
			r.done[what].Add(int64(n))
		}
	})
}

func (r *race) fail(format string, args ...any) {
	if r.wrong.Add(1) < 10 {
		r.t.Errorf(format, args...)
	}
}

func (r *race) run() {
	var all sync.WaitGroup
	for who, c := range r.caches {
		for k := range 3 {
			w := newWitness(r.m)
			r.repeat(&all, uint64(10*who+k), func(rng *rand.Rand) (string, int, error) { return "read", 1, r.read(c, w, rng) })
		}
		r.repeat(&all, uint64(10*who+8), func(rng *rand.Rand) (string, int, error) { return r.write(c, rng) })
	}
	r.repeat(&all, 1000, r.project)
	r.repeat(&all, 1001, r.destroy)
	all.Wait()
}

func (r *race) read(c *cache.Versioned[thing], w *witness, rng *rand.Rand) error {
	i, since := rng.IntN(raceIDs), time.Now()
	if c == r.caches[0] {
		since = since.Add(-raceStaleness) // so much the near layer may lag, and no more
	}
	w.seen[i] = max(w.seen[i], r.m.toldBy(i, since))
	e, err := c.GetEntry(r.t.Context(), idOf(i))
	if err != nil {
		return err
	}
	if wrong := w.judge(i, e); wrong != "" {
		return fmt.Errorf("near %t: %s", c == r.caches[0], wrong)
	}
	return nil
}

// write commits, and most often tells the cache, after a while.
func (r *race) write(c *cache.Versioned[thing], rng *rand.Rand) (string, int, error) {
	pauseALittle()
	i, what := rng.IntN(raceIDs), "write"
	if rng.IntN(4) == 0 {
		what = "delete"
	}
	event := r.m.change(i, what == "write")
	if rng.IntN(3) == 0 {
		return what, 1, nil
	}
	if rng.IntN(4) == 0 {
		pauseALittle()
	}
	_, err := c.Refresh(r.t.Context(), event.ID, event.Entry)
	if err == nil {
		r.m.tell(event)
	}
	return what, 1, unlessUnavailable(err)
}

// unlessUnavailable lets pass that Redis could not be told: events repeat it.
func unlessUnavailable(err error) error {
	if errors.Is(err, cache.ErrUnavailable) {
		return nil
	}
	return err
}

// project delivers the next events, in batches in any order, and every now and
// then some from before once more.
func (r *race) project(rng *rand.Rand) (string, int, error) {
	from := r.at
	if rng.IntN(8) == 0 {
		from = max(0, from-rng.IntN(200))
	}
	batch := r.m.events(from, 1+rng.IntN(50))
	if len(batch) == 0 {
		pauseALittle()
		return "project", 0, nil
	}
	next := max(r.at, from+len(batch))
	rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
	if _, err := r.caches[rng.IntN(len(r.caches))].RefreshAll(r.t.Context(), batch...); err != nil {
		return "project", 0, unlessUnavailable(err) // and once more
	}
	r.m.tell(batch...)
	r.at = next
	return "project", len(batch), nil
}

func (r *race) destroy(rng *rand.Rand) (string, int, error) {
	pauseALittle()
	id, ctx := idOf(rng.IntN(raceIDs)), r.t.Context()
	switch n := rng.IntN(400); {
	case n == 0:
		return "flush", 1, r.rdb.FlushDB(ctx).Err()
	case n < 8:
		r.proxy.Drop()
		return "cut", 1, nil
	case n < 10:
		r.proxy.Cut()
		pauseALittle()
		return "cut", 1, r.proxy.Heal()
	case n < 40:
		return "invalidate", 1, unlessUnavailable(r.caches[rng.IntN(len(r.caches))].Invalidate(ctx, id))
	case n < 120:
		return "evict", 1, r.rdb.Del(ctx, "lease:thing:"+id).Err()
	default:
		return "evict", 1, r.rdb.Del(ctx, "thing:"+id).Err()
	}
}

// quiet delivers the events that are left, and compares what Redis has and what
// everybody sees with the database.
func (r *race) quiet() {
	t := r.t
	for r.wrong.Load() == 0 && r.at < r.m.logged() {
		batch := r.m.events(r.at, 500)
		_, err := r.caches[2].RefreshAll(t.Context(), batch...)
		require.NoError(t, err)
		r.at += len(batch)
	}
	for i := 0; r.wrong.Load() == 0 && i < raceIDs; i++ {
		r.m.mu.Lock()
		want := r.m.entry(i)
		r.m.mu.Unlock()
		if text := r.rdb.Get(t.Context(), "thing:"+idOf(i)).Val(); text != "" && digits(text[21:34]) > time.Now().UnixMilli() {
			require.Equal(t, want.State == cache.Missing, text[20] == 'n', "stale: %s is %v version %d, Redis has %s", idOf(i), want.State, want.Version, text)
			require.True(t, text[20] == 'n' || digits(text[:20]) == want.Version, "stale: %s is version %d, Redis has %s", idOf(i), want.Version, text)
		}
		for p, c := range r.caches {
			see := func(ctx context.Context) error {
				e, err := c.GetEntry(ctx, idOf(i))
				if err == nil && (want.State == cache.Missing) != (e.State == cache.Missing) || e.State == cache.Live && e.Version != want.Version {
					err = fmt.Errorf("process %d: %s is %v version %d, the database has version %d", p, idOf(i), e.State, e.Version, want.Version)
				}
				return err
			}
			if p == 0 { // a near layer may lag a little
				harness.Await(t, 2*time.Minute, "the near layer to catch up", see)
			} else {
				require.NoError(t, see(t.Context()))
			}
		}
	}
}
