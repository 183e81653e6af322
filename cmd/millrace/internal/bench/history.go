package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// HistoryConfig describes a benchmark of what the length of the log, and of the
// backlog, costs.
type HistoryConfig struct {
	Rows    int            `json:"rows"`  // delivered rows of the long log
	Large   int            `json:"large"` // rows of the large backlog
	Small   int            `json:"small"` // rows of the small one
	Rate    int            `json:"rate"`
	For     time.Duration  `json:"-"` // of each measurement of latency
	Seconds float64        `json:"seconds"`
	Rounds  int            `json:"rounds"`
	Payload int            `json:"payload_bytes"`
	Keys    int            `json:"keys"`
	Servers servers.Config `json:"-"`
}

// Validate reports everything that is wrong with c.
func (c HistoryConfig) Validate() error {
	return problems(
		need(c.Rows >= 1, "--rows: must be at least 1"),
		need(c.Small >= 1, "--small: must be at least 1"),
		need(c.Large >= c.Small, "--large: must be at least --small"),
		need(c.Rate >= 1, "--rate: must be at least 1"),
		need(c.For >= 100*time.Millisecond, "--for: must be at least 100ms"),
		need(c.Rounds >= 1, "--rounds: must be at least 1"),
		need(c.Payload >= 1 && c.Payload <= 900_000, "--payload: must be 1 to 900000 bytes"),
		need(c.Keys >= 1, "--keys: must be at least 1"),
	)
}

const (
	historyWriters = 8
	// smallTimes is how many small backlogs make up one measurement: a single
	// one is over too soon for the clock.
	smallTimes = 5
	fillChunk  = 500_000
)

// historyBench has two outboxes on one server, so that the rounds can alternate.
type historyBench struct {
	*serverGroup
	cfg    HistoryConfig
	logs   map[string]*entities // by the names of their logs
	fresh  uint64               // numbers the rows of all backlogs
	drains map[string]*historyResult
	delays map[string]*latencyResult
}

// The logs.
const (
	nameShort = "empty"
	nameLong  = "delivered"
)

// History runs the benchmark.
func History(ctx context.Context, cfg HistoryConfig, line *progress.Line) (*HistoryReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Seconds = cfg.For.Seconds()
	g, err := newServerGroup(ctx, cfg.Servers, line)
	if err != nil {
		return nil, err
	}
	defer g.close()
	dsn, drop, err := g.another(ctx, "delivered")
	if err != nil {
		return nil, err
	}
	defer drop()
	b := &historyBench{serverGroup: g, cfg: cfg, logs: map[string]*entities{}, drains: map[string]*historyResult{}, delays: map[string]*latencyResult{}}
	for name, dsn := range map[string]string{nameShort: g.set.Postgres, nameLong: dsn} {
		ent, err := newEntities(ctx, dsn, "bench."+name, cfg.Keys, cfg.Payload)
		if err != nil {
			return nil, err
		}
		defer ent.close()
		if err := g.set.CreateTopic(ctx, ent.topic, partitions); err != nil {
			return nil, err
		}
		b.logs[name] = ent
	}
	if err := b.fillHistory(ctx); err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	// What has just started is slow: the broker's code is not compiled yet.
	if _, err := b.timeDelay(ctx, b.logs[nameShort]); err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	for round := range cfg.Rounds {
		if err := b.round(ctx, round); err != nil {
			return nil, fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	return newHistoryReport(b), nil
}

// fillHistory writes the delivered rows: a cursor is put behind them, as if a
// relay had carried them long ago.
func (b *historyBench) fillHistory(ctx context.Context) error {
	ent := b.logs[nameLong]
	for done := 0; done < b.cfg.Rows; done += fillChunk {
		b.line.Show("writing history: %d of %d rows", done, b.cfg.Rows)
		if err := b.insert(ctx, ent, min(fillChunk, b.cfg.Rows-done)); err != nil {
			return err
		}
		if _, err := ent.db.ExecContext(ctx, `SELECT outbox_make_partitions()`); err != nil {
			return err
		}
	}
	for _, q := range []string{
		`INSERT INTO outbox_cursor (relay, position) SELECT '` + relayName + `', max(position) FROM outbox`,
		`VACUUM ANALYZE outbox`,
	} {
		if _, err := ent.db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	b.line.Say("history has %d rows", b.cfg.Rows)
	return nil
}

// pour writes n rows in one transaction, round the keys in rising versions.
func (b *historyBench) insert(ctx context.Context, ent *entities, n int) error {
	first := b.fresh
	b.fresh += uint64(n)
	_, err := ent.db.ExecContext(ctx, fmt.Sprintf(`INSERT INTO outbox (topic, key, aggregate_type, aggregate_id, aggregate_version, event_type, payload)
SELECT '%s', 'row-' || n %% %[4]d, 'bench', 'row-' || n %% %[4]d, n + 1, 'bench.row', convert_to(repeat('x', %[5]d), 'UTF8')
  FROM generate_series(%[2]d::bigint, %[3]d::bigint) n`, ent.topic, first, first+uint64(n)-1, b.cfg.Keys, b.cfg.Payload))
	return err
}

// round measures both logs in rotating order.
func (b *historyBench) round(ctx context.Context, round int) error {
	names := []string{nameShort, nameLong}
	for i := range names {
		name := names[(round+i)%2]
		ent := b.logs[name]
		if err := b.delay(ctx, name, ent); err != nil {
			return fmt.Errorf("%s log: %w", name, err)
		}
		for _, size := range []struct {
			name     string
			rows, of int
		}{{"small", b.cfg.Small, smallTimes}, {"large", b.cfg.Large, 1}} {
			if size.name == "large" && name == nameLong {
				continue // the backlog's size is compared on the empty log
			}
			if err := b.drain(ctx, name, ent, size.name, size.rows, size.of); err != nil {
				return fmt.Errorf("%s log, %s backlog: %w", name, size.name, err)
			}
		}
	}
	return nil
}

func (b *historyBench) delay(ctx context.Context, name string, ent *entities) error {
	r := b.delays[name]
	if r == nil {
		r = &latencyResult{Name: name, Note: "latency at the given rate, relay in the writers' process"}
		b.delays[name] = r
	}
	if err := b.checkpoint(ctx); err != nil {
		return err
	}
	t, err := b.timeDelay(ctx, ent)
	if err != nil {
		return err
	}
	r.add(t)
	b.line.Say("%-10s log  %s", name, t)
	return nil
}

func (b *historyBench) timeDelay(ctx context.Context, ent *entities) (*trial, error) {
	v := variant{topic: ent.topic, start: func(ctx context.Context) (*pipeline, error) { return b.startRelay(ctx, ent, inProcess) }}
	return b.timeLatency(ctx, ent, v, pace{rate: b.cfg.Rate, length: b.cfg.For, writers: historyWriters}, nil)
}

// drain lets a backlog appear before a relay that runs already, several times,
// and adds the rate. Only the time from the commit to the last record counts.
func (b *historyBench) drain(ctx context.Context, log string, ent *entities, size string, rows, times int) error {
	key := log + "_" + size
	r := b.drains[key]
	if r == nil {
		r = &historyResult{Name: "drain_" + key, Log: log, Backlog: rows, Note: fmt.Sprintf("backlog of %d rows before a relay that runs, %d times", rows, times)}
		b.drains[key] = r
	}
	if err := b.checkpoint(ctx); err != nil {
		return err
	}
	c, err := b.startRelay(ctx, ent, inProcess)
	if err != nil {
		return err
	}
	tally := check.NewTally()
	var took time.Duration
	for range times {
		one, err := b.drainOnce(ctx, ent, c, tally, rows)
		if err != nil {
			return errors.Join(err, c.stop())
		}
		took += one
	}
	v := tally.Judge(nil)
	r.Checks.Lost += rows*times - tally.Seen()
	r.Checks.Reordered += v.Reordered
	r.Checks.Duplicates += v.Duplicates
	r.Spread.add(round1(float64(rows*times) / took.Seconds()))
	b.line.Say("%-10s log  backlog %8d  %9.0f msg/s", log, rows, last(r.Spread))
	return c.stop()
}

// drainOnce measures one backlog and reads it back.
func (b *historyBench) drainOnce(ctx context.Context, ent *entities, c *pipeline, tally *check.Tally, rows int) (time.Duration, error) {
	from, err := b.broker.Ends(ctx, ent.topic)
	if err != nil {
		return 0, err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	arrived := make(chan struct{})
	var at time.Time
	left := rows
	var g errgroup.Group
	g.Go(func() error {
		return b.broker.Follow(watching, map[string]check.Offsets{ent.topic: from}, func(r check.Record) {
			if tally.Deliver(r) {
				if left--; left == 0 {
					at = time.Now()
					close(arrived)
				}
			}
		})
	})
	if err := b.insert(ctx, ent, rows); err != nil {
		stop()
		return 0, errors.Join(err, g.Wait())
	}
	committed := time.Now()
	c.committed(check.Event{})
	limit, cancel := context.WithTimeout(ctx, readBudget)
	defer cancel()
	select {
	case <-arrived:
	case <-limit.Done():
		stop()
		return 0, errors.Join(fmt.Errorf("a backlog of %d rows did not arrive", rows), ctx.Err(), g.Wait())
	}
	stop()
	return max(at.Sub(committed), time.Microsecond), g.Wait()
}
