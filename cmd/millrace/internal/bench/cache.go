package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// CacheConfig describes a benchmark of the cache.
type CacheConfig struct {
	Reads     int            `json:"reads"` // of each variant in each round
	Puts      int            `json:"puts"`  // of each variant in each round
	Readers   int            `json:"readers"`
	Rounds    int            `json:"rounds"`
	Keys      int            `json:"keys"`
	Payload   int            `json:"payload_bytes"` // about the size of an entry's JSON
	FlushRate int            `json:"flush_rate"`    // requests per second while Redis is flushed
	FlushFor  time.Duration  `json:"-"`             // length of that, for each round
	Servers   servers.Config `json:"-"`
}

// Validate reports everything that is wrong with c.
func (c CacheConfig) Validate() error {
	return problems(
		need(c.Reads >= 100, "--reads: must be at least 100"),
		need(c.Puts >= 100, "--puts: must be at least 100"),
		need(c.Readers >= 1 && c.Readers <= 10_000, "--readers: must be 1 to 10000"),
		need(c.Rounds >= 1, "--rounds: must be at least 1"),
		need(c.Keys >= 1, "--keys: must be at least 1"),
		need(c.Payload >= 1 && c.Payload <= 900_000, "--payload: must be 1 to 900000 bytes"),
		need(c.FlushRate >= 1 && c.FlushRate <= 100_000, "--flush-rate: must be 1 to 100000"),
		need(c.FlushFor >= 100*time.Millisecond, "--flush-for: must be at least 100ms"),
		need(float64(c.FlushRate)*c.FlushFor.Seconds() >= 10, "--flush-rate, --flush-for: must make 10 requests at least"),
	)
}

// cacheBench is the server and the clients on it.
type cacheBench struct {
	cfg     CacheConfig
	set     *servers.Set
	line    *progress.Line
	watch   *watch
	rdb     *redis.Client
	samples *samples

	results []*cacheResult
	near    *cacheResult // nil if the server cannot track
	puts    []*cacheResult
	storms  []*stormResult
	flushed *CacheFlush
}

// Cache runs the benchmark. Postgres and Kafka are not used: a load takes a fixed
// time.
func Cache(ctx context.Context, cfg CacheConfig, line *progress.Line) (*CacheReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Servers.NoPostgres, cfg.Servers.NoKafka = true, true
	line.Say("starting Redis")
	set, err := servers.Start(ctx, cfg.Servers)
	defer stop(set)
	if err != nil {
		return nil, fmt.Errorf("start servers: %w", err)
	}
	line.Say("redis %s", set.Names.Redis)
	defer line.Done()
	b := &cacheBench{cfg: cfg, set: set, line: line, watch: startWatch(), samples: newSamples(cfg.Payload)}
	if b.rdb, err = b.client(); err != nil {
		return nil, err
	}
	err = b.run(ctx)
	if err := errors.Join(err, b.rdb.Close()); err != nil {
		return nil, err
	}
	return newCacheReport(b), nil
}

// client has a cache's options, but longer timeouts: a busy machine is not a failure.
func (b *cacheBench) client() (*redis.Client, error) {
	o, err := redis.ParseURL(b.set.Redis)
	if err != nil {
		return nil, err
	}
	cache.Harden(o)
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = time.Second, time.Second, time.Second, time.Second
	return redis.NewClient(o), nil
}

func (b *cacheBench) run(ctx context.Context) error {
	store, err := cache.NewStore(b.rdb, cache.StoreConfig{})
	if err != nil {
		return err
	}
	defer store.Close()
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- store.Run(running) }() // for the near layer
	defer func() { stop(); <-done }()          //nolint:errcheck // it ends because it was stopped
	steps, err := b.steps(ctx, store)
	if err != nil {
		return err
	}
	for round := range b.cfg.Rounds {
		for _, step := range steps {
			if err := step(ctx, round); err != nil {
				return fmt.Errorf("round %d: %w", round+1, err)
			}
		}
	}
	if b.flushed, err = b.flush(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

// steps prepares the parts of a round.
func (b *cacheBench) steps(ctx context.Context, store *cache.Store) ([]func(ctx context.Context, round int) error, error) {
	reads, err := b.readVariants(ctx, store)
	if err != nil {
		return nil, fmt.Errorf("prepare reads: %w", err)
	}
	near, err := b.nearVariant(ctx, store)
	if err != nil {
		return nil, fmt.Errorf("prepare the near layer: %w", err)
	}
	puts, err := b.putVariants(store)
	if err != nil {
		return nil, fmt.Errorf("prepare puts: %w", err)
	}
	return []func(context.Context, int) error{
		func(ctx context.Context, round int) error { return b.read(ctx, reads, round) },
		func(ctx context.Context, round int) error { return b.readNear(ctx, near, round) },
		func(ctx context.Context, round int) error { return b.put(ctx, puts, round) },
		func(ctx context.Context, round int) error { return b.stampede(ctx, round) },
	}, nil
}
