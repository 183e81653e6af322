package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	rediscache "github.com/go-redis/cache/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/cmd/millrace/internal/latency"
)

// The variants' names in results.
const (
	nameGet        = "get"
	nameGetDecode  = "get_decode"
	nameHit        = "hit"
	nameQueryHit   = "query_hit"
	nameRedisCache = "go_redis_cache_hit"
	nameNearHit    = "near_hit"
)

// good is what is cached: a small aggregate.
type sample struct {
	ID      string    `json:"id"`
	Status  string    `json:"status"`
	Version int64     `json:"version"`
	At      time.Time `json:"at"`
	Text    string    `json:"text"`
}

type samples struct {
	text string
	at   time.Time
}

func newSamples(payload int) *samples {
	g := &samples{at: time.Now().UTC()}
	empty, _ := json.Marshal(g.of("key-0", 1)) // marshals always
	g.text = strings.Repeat("x", max(payload-len(empty), 1))
	return g
}

func (g *samples) of(id string, version int64) sample {
	return sample{ID: id, Status: "SENT", Version: version, At: g.at, Text: g.text}
}

func cacheKey(i int) string { return fmt.Sprintf("key-%d", i) }

// readVariant is one way to get what is cached.
type readVariant struct {
	result *cacheResult
	get    func(ctx context.Context, id string) error
}

// readVariants fills all caches. All keep the same things, and each has one
// round trip a read.
func (b *cacheBench) readVariants(ctx context.Context, store *cache.Store) ([]*readVariant, error) {
	versioned, err := cache.NewVersioned[sample](store, "bench", nil, cache.VersionedConfig[sample]{TTL: time.Hour})
	if err != nil {
		return nil, err
	}
	query, err := cache.NewQuery(store, "bench", func(_ context.Context, id string) (sample, error) { return b.samples.of(id, 1), nil }, cache.QueryConfig[sample]{TTL: time.Hour})
	if err != nil {
		return nil, err
	}
	rival := rediscache.New(&rediscache.Options{Redis: b.rdb})
	for i := range b.cfg.Keys {
		id := cacheKey(i)
		if _, err := versioned.Put(ctx, id, cache.Found(1, b.samples.of(id, 1))); err != nil {
			return nil, err
		}
		if err := rival.Set(&rediscache.Item{Ctx: ctx, Key: "rival:" + id, Value: b.samples.of(id, 1), TTL: time.Hour}); err != nil {
			return nil, err
		}
		if _, err := query.Get(ctx, id); err != nil {
			return nil, err
		}
	}
	get := func(ctx context.Context, id string) ([]byte, error) { return b.rdb.Get(ctx, "bench:"+id).Bytes() }
	variants := []*readVariant{
		{newCacheResult(nameGet, "a bare GET of what hit reads"), func(ctx context.Context, id string) error { _, err := get(ctx, id); return err }},
		{newCacheResult(nameGetDecode, "a bare GET, and its JSON decoded"), func(ctx context.Context, id string) error {
			text, err := get(ctx, id)
			if err != nil {
				return err
			}
			var g sample
			return json.Unmarshal(text[len(text)-b.size(id):], &g)
		}},
		{newCacheResult(nameHit, "Versioned.Get"), func(ctx context.Context, id string) error { _, err := versioned.Get(ctx, id); return err }},
		{newCacheResult(nameQueryHit, "Query.Get: generation and result in one script"), func(ctx context.Context, id string) error { _, err := query.Get(ctx, id); return err }},
		{newCacheResult(nameRedisCache, "go-redis/cache v9.0.0, without its local layer, which no other process can invalidate"), func(ctx context.Context, id string) error {
			var g sample
			return rival.Get(ctx, "rival:"+id, &g)
		}},
	}
	for _, v := range variants {
		b.results = append(b.results, v.result)
	}
	return variants, nil
}

// size is the length of an entry's JSON.
func (b *cacheBench) size(id string) int {
	text, _ := json.Marshal(b.samples.of(id, 1)) // marshals always
	return len(text)
}

// read lets the variants read in turns, one read each, so that whatever happens
// to the machine meanwhile happens to all.
func (b *cacheBench) read(ctx context.Context, variants []*readVariant, round int) error {
	recorders := make([]latency.Recorder, len(variants))
	for n := range b.cfg.Reads {
		id := cacheKey(n % b.cfg.Keys)
		for i := range variants {
			at := (n + i) % len(variants)
			start := time.Now()
			if err := variants[at].get(ctx, id); err != nil {
				return fmt.Errorf("%s: %w", variants[at].result.Name, err)
			}
			recorders[at].Observe(time.Since(start))
		}
	}
	for i, v := range variants {
		v.result.times(&recorders[i], 1)
		b.line.Say("round %d  %-20s %s", round+1, v.result.Name, v.result.last())
	}
	return nil
}

// nearBatch is how many reads of the near layer are timed as one: a clock that
// takes 50 ns cannot time each.
const nearBatch = 64

// nearVariant waits until the near layer has everything. It is nil if the server
// cannot keep one fresh, as a twin cannot.
func (b *cacheBench) nearVariant(ctx context.Context, store *cache.Store) (*cache.Versioned[sample], error) {
	near, err := cache.NewVersioned(store, "near", func(_ context.Context, id string) (cache.Entry[sample], error) {
		return cache.Found(1, b.samples.of(id, 1)), nil
	}, cache.VersionedConfig[sample]{TTL: time.Hour, Near: &cache.NearConfig{Staleness: 10 * time.Second, Entries: 64 * (b.cfg.Keys + 1)}})
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); {
		hits := near.Near()
		for i := range b.cfg.Keys {
			if _, err := near.Get(ctx, cacheKey(i)); err != nil {
				return nil, err
			}
		}
		if near.Near() >= b.cfg.Keys && hits >= b.cfg.Keys {
			b.near = newCacheResult(nameNearHit, "Versioned.Get answered by the near layer")
			b.results = append(b.results, b.near)
			return near, nil
		}
	}
	return nil, nil
}

func (b *cacheBench) readNear(ctx context.Context, near *cache.Versioned[sample], round int) error {
	if near == nil {
		return nil
	}
	ids := make([]string, b.cfg.Keys)
	for i := range ids {
		ids[i] = cacheKey(i)
	}
	var r latency.Recorder
	for n := 0; n < b.cfg.Reads; n += nearBatch {
		start := time.Now()
		for i := range nearBatch {
			if _, err := near.Get(ctx, ids[(n+i)%len(ids)]); err != nil {
				return err
			}
		}
		r.Observe(time.Since(start))
	}
	b.near.times(&r, nearBatch)
	b.line.Say("round %d  %-20s %s", round+1, b.near.Name, b.near.last())
	return nil
}
