package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// WriteConfig describes a benchmark of what the outbox costs its writers.
type WriteConfig struct {
	Clients []int          `json:"clients"`
	For     time.Duration  `json:"-"` // of each variant with each number of clients in each round
	Seconds float64        `json:"seconds"`
	Rounds  int            `json:"rounds"`
	Payload int            `json:"payload_bytes"`
	Keys    int            `json:"keys"`
	Servers servers.Config `json:"-"`
}

// Validate reports everything that is wrong with c.
func (c WriteConfig) Validate() error {
	clients := len(c.Clients) > 0
	for _, n := range c.Clients {
		clients = clients && n >= 1 && n <= entityConnections
	}
	return problems(
		need(clients, "--clients: give numbers from 1 to 80"),
		need(c.For >= 50*time.Millisecond, "--for: must be at least 50ms"),
		need(c.Rounds >= 1, "--rounds: must be at least 1"),
		need(c.Payload >= 1 && c.Payload <= 900_000, "--payload: must be 1 to 900000 bytes"),
		need(c.Keys >= 1, "--keys: must be at least 1"),
	)
}

// The variants' names in results.
const (
	nameWithout      = "without"
	nameAppend       = "append"
	nameUnprepared   = "append_unprepared"
	nameEntityWriter = "entity_writer"
	nameCommit       = "entity_writer_commit"
	nameStatement    = "without_transaction"
	nameEmpty        = "begin_commit"
)

// writeVariant is one kind of transaction.
type writeVariant struct {
	name, note string
	trips      int // round trips of one transaction
	run        func(ctx context.Context) error
}

// Write runs the benchmark. No relay runs beside it and Kafka is not used.
func Write(ctx context.Context, cfg WriteConfig, line *progress.Line) (*WriteReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Seconds = cfg.For.Seconds()
	g, err := newServerGroup(ctx, cfg.Servers, line)
	if err != nil {
		return nil, err
	}
	defer g.close()
	ent, err := newEntities(ctx, g.set.Postgres, topicRelay, cfg.Keys, cfg.Payload)
	if err != nil {
		return nil, err
	}
	defer ent.close()
	variants, done, err := ent.writeVariants(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	results, err := g.raceWriters(ctx, cfg, variants)
	if err != nil {
		return nil, err
	}
	return newWriteReport(cfg, g, results), nil
}

// writeVariants are the same business transaction without and with an outbox,
// and an empty one, which shows what BEGIN and COMMIT alone take.
func (ent *entities) writeVariants(ctx context.Context) (variants []writeVariant, done func(), err error) {
	plain, err := pgstore.New(ent.db, pgstore.Config{})
	if err != nil {
		return nil, nil, err
	}
	entityWriter, err := pgstore.NewEntityWriter(ent.db, upsertEntity, pgstore.EntityWriterConfig{})
	if err != nil {
		return nil, nil, err
	}
	if err := entityWriter.Prepare(ctx); err != nil {
		return nil, nil, err
	}
	prepared, err1 := outbox.NewWriter(ent.store, outbox.WriterConfig{})
	unprepared, err2 := outbox.NewWriter(plain, outbox.WriterConfig{})
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, err
	}
	with := func(w *outbox.Writer) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := ent.saveAnd(ctx, func(tx *sql.Tx, m outbox.Message) error { return w.Append(ctx, tx, m) })
			return err
		}
	}
	return []writeVariant{
		{nameWithout, "the entity alone: BEGIN, upsert, COMMIT", 3, func(ctx context.Context) error {
			_, err := ent.saveAnd(ctx, func(*sql.Tx, outbox.Message) error { return nil })
			return err
		}},
		{nameAppend, "BEGIN, upsert, Writer.Append on a prepared store, COMMIT", 4, with(prepared)},
		{nameUnprepared, "the same on a store that was not prepared", 5, with(unprepared)},
		{nameEntityWriter, "BEGIN, upsert and outbox insert as one prepared statement (pgstore.EntityWriter), COMMIT", 3, func(ctx context.Context) error {
			key := ent.key()
			m := ent.message(key, 0)
			var version int64
			return ent.transaction(ctx, func(tx *sql.Tx) error {
				return entityWriter.Append(ctx, tx, []any{key, string(ent.body)}, []any{&version}, m)
			})
		}},
		{nameCommit, "the same statement as a transaction of its own (EntityWriter.Commit)", 1, func(ctx context.Context) error {
			key := ent.key()
			m := ent.message(key, 0)
			var version int64
			return entityWriter.Commit(ctx, []any{key, string(ent.body)}, []any{&version}, m)
		}},
		{nameStatement, "the entity alone as a transaction of its own", 1, func(ctx context.Context) error {
			var version int64
			return ent.upsert.QueryRowContext(ctx, ent.key(), string(ent.body)).Scan(&version)
		}},
		{nameEmpty, "BEGIN and COMMIT with nothing between, and so nothing to sync: the round trips that all of them share", 2, func(ctx context.Context) error {
			return ent.transaction(ctx, func(*sql.Tx) error { return nil })
		}},
	}, func() { _ = entityWriter.Close() }, nil
}

// raceWriters runs the rounds: in each one every variant with every number of
// clients once, in rotating order.
func (g *serverGroup) raceWriters(ctx context.Context, cfg WriteConfig, variants []writeVariant) ([]*writeResult, error) {
	var results []*writeResult
	for _, clients := range cfg.Clients {
		for _, v := range variants {
			results = append(results, &writeResult{Name: v.name, Clients: clients, RoundTrips: v.trips, Note: v.note})
		}
	}
	for round := range cfg.Rounds {
		for c, clients := range cfg.Clients {
			if err := g.checkpoint(ctx); err != nil {
				return nil, err
			}
			for i := range variants {
				at := (round + i) % len(variants)
				r, err := writeFor(ctx, clients, cfg.For, variants[at].run)
				if err != nil {
					return nil, fmt.Errorf("%s, %d clients, round %d: %w", variants[at].name, clients, round+1, err)
				}
				results[c*len(variants)+at].add(r)
				g.line.Say("round %d  %2d clients  %-18s %8.0f tx/s", round+1, clients, variants[at].name, r)
			}
		}
	}
	return results, nil
}

// writeFor runs transactions from so many clients and returns how many were
// committed per second, after a fifth of the time as a warm-up.
func writeFor(ctx context.Context, clients int, length time.Duration, transaction func(context.Context) error) (float64, error) {
	var measuring, stopped atomic.Bool
	var count atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range clients {
		g.Go(func() error {
			for !stopped.Load() {
				if err := transaction(ctx); err != nil {
					return err
				}
				if measuring.Load() && !stopped.Load() {
					count.Add(1)
				}
			}
			return nil
		})
	}
	defer stopped.Store(true)
	if err := pause(ctx, length/5); err != nil {
		stopped.Store(true)
		return 0, errors.Join(g.Wait(), err)
	}
	measuring.Store(true)
	began := time.Now()
	err := pause(ctx, length)
	n, took := count.Load(), time.Since(began)
	stopped.Store(true)
	if err := errors.Join(g.Wait(), err); err != nil {
		return 0, err
	}
	return float64(n) / took.Seconds(), nil
}

// pause waits for d, or returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
