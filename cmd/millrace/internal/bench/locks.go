package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
	migrations "github.com/millrace-go/millrace/sql"
)

// LocksConfig describes a benchmark of the locks of jobs.
type LocksConfig struct {
	Workers int            `json:"workers"`
	For     time.Duration  `json:"-"` // of each store in each round
	Seconds float64        `json:"seconds"`
	Rounds  int            `json:"rounds"`
	Servers servers.Config `json:"-"`
}

// Validate reports everything that is wrong with c.
func (c LocksConfig) Validate() error {
	return problems(
		need(c.Workers >= 1 && c.Workers <= entityConnections, "--workers: must be 1 to 80"),
		need(c.For >= 50*time.Millisecond, "--for: must be at least 50ms"),
		need(c.Rounds >= 1, "--rounds: must be at least 1"),
	)
}

// lockVariant takes the lock of that name and frees it.
type lockVariant struct {
	name, note string
	rival      bool
	pair       func(ctx context.Context, lock string) error
}

// locksBench is the servers and the clients on them.
type locksBench struct {
	cfg   LocksConfig
	set   *servers.Set
	db    *sql.DB
	rdb   *redis.Client
	line  *progress.Line
	watch *watch
}

// Locks runs the benchmark. Each worker takes and frees a lock of its own, over
// and over; Kafka is not used.
func Locks(ctx context.Context, cfg LocksConfig, line *progress.Line) (*LocksReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Seconds, cfg.Servers.NoKafka = cfg.For.Seconds(), true
	line.Say("starting servers")
	set, err := servers.Start(ctx, cfg.Servers)
	defer stop(set)
	if err != nil {
		return nil, fmt.Errorf("start servers: %w", err)
	}
	line.Say("postgres %s, redis %s", set.Names.Postgres, set.Names.Redis)
	defer line.Done()
	b := &locksBench{cfg: cfg, set: set, line: line, watch: startWatch()}
	if err := b.open(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	rep, err := b.run(ctx)
	return rep, errors.Join(err, b.close())
}

// open makes the clients, with a connection for each worker.
func (b *locksBench) open(ctx context.Context) (err error) {
	if b.db, err = sql.Open("postgres", b.set.Postgres); err != nil {
		return err
	}
	b.db.SetMaxOpenConns(b.cfg.Workers)
	b.db.SetMaxIdleConns(b.cfg.Workers)
	if _, err = migrations.Up(ctx, b.db, migrations.Outbox); err != nil {
		return err
	}
	b.rdb, err = b.redisClient()
	return err
}

func (b *locksBench) close() error {
	var errs []error
	if b.rdb != nil {
		errs = append(errs, b.rdb.Close())
	}
	if b.db != nil {
		errs = append(errs, b.db.Close())
	}
	return errors.Join(errs...)
}

// run runs the rounds: in each one every store once, in rotating order.
func (b *locksBench) run(ctx context.Context) (*LocksReport, error) {
	variants, done, err := b.variants(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	results := make([]*lockResult, len(variants))
	for i, v := range variants {
		results[i] = &lockResult{Name: v.name, Rival: v.rival, Note: v.note}
	}
	for round := range b.cfg.Rounds {
		if _, err := b.db.ExecContext(ctx, "CHECKPOINT"); err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
		for i := range variants {
			at := (round + i) % len(variants)
			r, err := pairsFor(ctx, b.cfg.Workers, b.cfg.For, variants[at].pair)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", variants[at].name, round+1, err)
			}
			results[at].add(r)
			b.line.Say("round %d  %-18s %8.0f pairs/s", round+1, variants[at].name, r)
		}
	}
	return newLocksReport(b, results), nil
}

// pairsFor lets workers take and free locks and returns how many pairs they did
// per second, after a fifth of the time as a warm-up.
func pairsFor(ctx context.Context, workers int, length time.Duration, pair func(context.Context, string) error) (float64, error) {
	var measuring, stopped atomic.Bool
	counts := make([]struct {
		n atomic.Int64
		_ [56]byte // a cache line each
	}, workers)
	g, ctx := errgroup.WithContext(ctx)
	for w := range workers {
		name := "bench-" + strconv.Itoa(w)
		g.Go(func() error {
			for !stopped.Load() {
				if err := pair(ctx, name); err != nil {
					return err
				}
				if measuring.Load() && !stopped.Load() {
					counts[w].n.Add(1)
				}
			}
			return nil
		})
	}
	err := pause(ctx, length/5)
	measuring.Store(true)
	began := time.Now()
	if err == nil {
		err = pause(ctx, length)
	}
	var total int64
	for w := range counts {
		total += counts[w].n.Load()
	}
	took := time.Since(began)
	stopped.Store(true)
	if err := errors.Join(g.Wait(), err); err != nil {
		return 0, err
	}
	return float64(total) / took.Seconds(), nil
}
