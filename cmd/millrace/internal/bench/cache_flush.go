package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/cmd/millrace/internal/latency"
)

const (
	flushKeys   = 500
	flushLoad   = 20 * time.Millisecond // how long a load takes
	flushTimes  = 3                     // in each round
	flushBound  = 32                    // the loads at once that a store allows by default
	flushPrefix = "flush:"
)

// CacheFlush is what became of requests while Redis lost its data, over all rounds.
type CacheFlush struct {
	Requests  int     `json:"requests"`
	Failed    int     `json:"failed"`     // got an error, or not what they asked for
	PeakLoads int     `json:"peak_loads"` // the largest number at once
	Loads     int     `json:"loads"`
	P99       float64 `json:"p99_ms"` // from when the request was due
	Flushes   int     `json:"flushes"`
}

// OK reports that no request failed and the database had no more to do at once
// than it is promised.
func (f *CacheFlush) OK() bool { return f.Failed == 0 && f.PeakLoads <= flushBound }

// flushTrial is the cache under the requests, and what was seen of it.
type flushTrial struct {
	cache *cache.Versioned[sample]
	rdb   *redis.Client
	given bool // the server is somebody else's: only what is the trial's may go

	failed, loads, loading, peak atomic.Int64
	times                        latency.Recorder
}

// flush sends requests at a steady rate, whatever becomes of those before, to a
// store with the default configuration, and lets Redis lose its data again and
// again. It begins cold. It comes after all other parts, whose entries go, too.
func (b *cacheBench) flush(ctx context.Context) (*CacheFlush, error) {
	rdb, err := b.client()
	if err != nil {
		return nil, err
	}
	defer rdb.Close()
	store, err := cache.NewStore(rdb, cache.StoreConfig{})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	t := &flushTrial{rdb: rdb, given: b.cfg.Servers.Redis != ""}
	t.cache, err = cache.NewVersioned(store, "flush", func(ctx context.Context, id string) (cache.Entry[sample], error) {
		t.loads.Add(1)
		now := t.loading.Add(1)
		defer t.loading.Add(-1)
		for p := t.peak.Load(); now > p && !t.peak.CompareAndSwap(p, now); p = t.peak.Load() {
		}
		return cache.Found(1, b.samples.of(id, 1)), pause(ctx, flushLoad)
	}, cache.VersionedConfig[sample]{TTL: time.Hour, Prefix: flushPrefix})
	if err != nil {
		return nil, err
	}
	total := &CacheFlush{}
	for round := range b.cfg.Rounds {
		n, err := t.run(ctx, b.cfg.FlushRate, b.cfg.FlushFor)
		if err != nil {
			return nil, fmt.Errorf("flush, round %d: %w", round+1, err)
		}
		total.Requests, total.Flushes = total.Requests+n, total.Flushes+flushTimes
		b.line.Say("round %d  %-20s %d requests, %d failed, at most %d loads at once", round+1, nameFlush, n, t.failed.Load(), t.peak.Load())
	}
	total.Failed, total.PeakLoads, total.Loads = int(t.failed.Load()), int(t.peak.Load()), int(t.loads.Load())
	total.P99 = latency.Milliseconds(t.times.Quantile(0.99))
	return total, nil
}

// run sends the requests of one round and waits for their answers.
func (t *flushTrial) run(ctx context.Context, rate int, length time.Duration) (sent int, err error) {
	if err := t.lose(ctx); err != nil {
		return 0, err
	}
	var requests sync.WaitGroup
	defer requests.Wait()
	total := int(float64(rate) * length.Seconds())
	start := time.Now()
	lost := make(chan error, flushTimes)
	for lose := 1; sent < total; sent++ {
		due := start.Add(time.Duration(sent) * length / time.Duration(total))
		if err := pause(ctx, time.Until(due)); err != nil {
			return sent, err
		}
		if sent >= total*(2*lose-1)/(2*flushTimes) {
			lose++
			requests.Go(func() { lost <- t.lose(ctx) })
		}
		id := cacheKey(sent * 7 % flushKeys)
		requests.Go(func() { t.ask(ctx, id, due) })
	}
	requests.Wait()
	for range flushTimes {
		if err := <-lost; err != nil {
			return sent, err
		}
	}
	return sent, ctx.Err()
}

func (t *flushTrial) ask(ctx context.Context, id string, due time.Time) {
	if got, err := t.cache.Get(ctx, id); err != nil || got.ID != id {
		t.failed.Add(1)
	}
	t.times.Observe(time.Since(due))
}

// lose takes everything from Redis, or from one that is somebody else's all that
// the trial has there.
func (t *flushTrial) lose(ctx context.Context) error {
	if !t.given {
		return t.rdb.FlushAll(ctx).Err()
	}
	keys := make([]string, 0, 2*flushKeys)
	for i := range flushKeys {
		key := flushPrefix + cacheKey(i)
		keys = append(keys, key, "lease:"+key)
	}
	return t.rdb.Del(ctx, keys...).Err()
}
