package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	rediscache "github.com/go-redis/cache/v9"
	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
)

// The variants' names in results.
const (
	namePutNewer    = "put_if_newer"
	namePipelineSet = "pipeline_set"
	nameStampede    = "stampede"
	nameRivalStorm  = "go_redis_cache_stampede"
	nameFlush       = "flush"
)

// putBatch is the events of one batch of a projection.
const putBatch = 500

// putVariant puts the entries of one batch, each newer than what is there.
type putVariant struct {
	result *cacheResult
	put    func(ctx context.Context, ids []string, version int64) error
}

func (b *cacheBench) putVariants(store *cache.Store) ([]*putVariant, error) {
	view, err := cache.NewVersioned[sample](store, "view", nil, cache.VersionedConfig[sample]{TTL: time.Hour})
	if err != nil {
		return nil, err
	}
	variants := []*putVariant{
		{newCacheResult(namePutNewer, "Versioned.PutAll: compare, store, take the lease away, in pipelines"), func(ctx context.Context, ids []string, version int64) error {
			puts := make([]cache.Put[sample], len(ids))
			for i, id := range ids {
				puts[i] = cache.Put[sample]{ID: id, Entry: cache.Found(version, b.samples.of(id, version))}
			}
			done, err := view.PutAll(ctx, puts...)
			if err == nil && done.Stored != len(ids) {
				err = fmt.Errorf("stored %d of %d", done.Stored, len(ids))
			}
			return err
		}},
		{newCacheResult(namePipelineSet, "plain SET of the same JSON in pipelines: no protection at all"), func(ctx context.Context, ids []string, version int64) error {
			_, err := b.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				for _, id := range ids {
					text, err := json.Marshal(b.samples.of(id, version))
					if err != nil {
						return err
					}
					p.Set(ctx, "plain:"+id, text, time.Hour)
				}
				return nil
			})
			return err
		}},
	}
	for _, v := range variants {
		b.puts = append(b.puts, v.result)
	}
	return variants, nil
}

// put lets one writer put in batches; the variants take turns, batch by batch.
func (b *cacheBench) put(ctx context.Context, variants []*putVariant, round int) error {
	took := make([]time.Duration, len(variants))
	ids := make([]string, putBatch)
	batches := (b.cfg.Puts + putBatch - 1) / putBatch
	for n := range batches {
		version := int64(round*batches+n) + 1
		for i := range ids {
			ids[i] = cacheKey(i)
		}
		for i := range variants {
			at := (n + i) % len(variants)
			start := time.Now()
			if err := variants[at].put(ctx, ids, version); err != nil {
				return fmt.Errorf("%s: %w", variants[at].result.Name, err)
			}
			took[at] += time.Since(start)
		}
	}
	for i, v := range variants {
		v.result.PerSecond.add(round1(float64(batches*putBatch) / took[i].Seconds()))
		b.line.Say("round %d  %-20s %.0f/s", round+1, v.result.Name, v.result.PerSecond.lastRound())
	}
	return nil
}

// stormLoad is how long a load takes that a thousand readers wait for.
const stormLoad = 50 * time.Millisecond

// stampede lets all readers ask for a cold key at once, in four processes' worth
// of caches, and counts the loads.
func (b *cacheBench) stampede(ctx context.Context, round int) error {
	ours, theirs := b.storm(nameStampede, "readers of a cold key, over 4 stores with clients of their own"), b.storm(nameRivalStorm, "the same with go-redis/cache's Once, over 4 caches")
	key := fmt.Sprintf("cold-%d-%d", round, time.Now().UnixNano())
	var getters, rivals [4]func(context.Context, *atomic.Int64) error
	for i := range getters {
		rdb, err := b.client()
		if err != nil {
			return err
		}
		defer rdb.Close()
		store, err := cache.NewStore(rdb, cache.StoreConfig{})
		if err != nil {
			return err
		}
		defer store.Close()
		loads := &atomic.Pointer[atomic.Int64]{}
		c, err := cache.NewVersioned(store, "storm", func(ctx context.Context, id string) (cache.Entry[sample], error) {
			loads.Load().Add(1)
			return cache.Found(1, b.samples.of(id, 1)), pause(ctx, stormLoad)
		}, cache.VersionedConfig[sample]{TTL: time.Minute})
		if err != nil {
			return err
		}
		getters[i] = func(ctx context.Context, n *atomic.Int64) error {
			loads.Store(n)
			_, err := c.Get(ctx, key)
			return err
		}
		rival := rediscache.New(&rediscache.Options{Redis: rdb})
		rivals[i] = func(ctx context.Context, n *atomic.Int64) error {
			var g sample
			return rival.Once(&rediscache.Item{Ctx: ctx, Key: "rival:" + key, Value: &g, TTL: time.Minute, Do: func(*rediscache.Item) (any, error) {
				n.Add(1)
				return b.samples.of(key, 1), pause(ctx, stormLoad)
			}})
		}
	}
	return errors.Join(ours.run(ctx, b.cfg.Readers, getters[:]), theirs.run(ctx, b.cfg.Readers, rivals[:]))
}

// blow lets the readers loose.
func (r *stormResult) run(ctx context.Context, readers int, getters []func(context.Context, *atomic.Int64) error) error {
	var loads, failed atomic.Int64
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range readers {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			if err := getters[i%len(getters)](ctx, &loads); err != nil {
				failed.Add(1)
			}
		})
	}
	ready.Wait()
	began := time.Now()
	close(start)
	done.Wait()
	r.Loads = append(r.Loads, int(loads.Load()))
	r.Failed = append(r.Failed, int(failed.Load()))
	r.Took.add(round1(float64(time.Since(began).Microseconds()) / 1000))
	return ctx.Err()
}
