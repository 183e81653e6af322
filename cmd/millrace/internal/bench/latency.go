package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// LatencyConfig describes a benchmark of the way from commit to consumer.
type LatencyConfig struct {
	Rate    int            `json:"rate"` // transactions per second, over all writers; 0: as many as they can
	For     time.Duration  `json:"-"`    // of each variant in each round
	Seconds float64        `json:"seconds"`
	Rounds  int            `json:"rounds"`
	Writers int            `json:"writers"`
	Payload int            `json:"payload_bytes"`
	Keys    int            `json:"keys"`
	LongTx  bool           `json:"long_tx"`
	Alone   bool           `json:"alone"` // without the rival
	Age     time.Duration  `json:"-"`     // how long writers have written beside the long transactions before it counts
	AgeSecs float64        `json:"age_seconds"`
	Servers servers.Config `json:"-"`
}

// Validate reports everything that is wrong with c.
func (c LatencyConfig) Validate() error {
	return problems(
		need(c.Rate >= 0, "--rate: must be at least 1, or 0 for full speed"),
		need(c.For >= 100*time.Millisecond, "--for: must be at least 100ms"),
		need(c.Rounds >= 1, "--rounds: must be at least 1"),
		need(c.Writers >= 1 && c.Writers <= entityConnections/2, "--writers: must be 1 to 40"),
		need(c.Payload >= 1 && c.Payload <= 900_000, "--payload: must be 1 to 900000 bytes"),
		need(c.Keys >= 1, "--keys: must be at least 1"),
		need(c.Age >= 0 && (c.Age == 0 || c.LongTx), "--age: must be positive, and needs --long-tx"),
	)
}

func need(ok bool, text string) error {
	if ok {
		return nil
	}
	return errors.New(text)
}

func problems(errs ...error) error { return errors.Join(errs...) }

// The variants' names in results.
const (
	nameInProcess = "in_process"
	namePolling   = "polling"
	nameListener  = "listener"
	nameDirect    = "direct"
)

// variant is one way that messages take.
type variant struct {
	name, note, topic string
	longTx            bool
	start             func(ctx context.Context) (*pipeline, error)
}

// Latency runs the benchmark.
func Latency(ctx context.Context, cfg LatencyConfig, line *progress.Line) (*LatencyReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Seconds, cfg.AgeSecs = cfg.For.Seconds(), cfg.Age.Seconds()
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
	for _, topic := range []string{topicRelay, topicForwarder} {
		if err := g.set.CreateTopic(ctx, topic, partitions); err != nil {
			return nil, err
		}
	}
	var elsewhere *sql.DB
	if cfg.LongTx {
		dsn, drop, err := g.another(ctx, "elsewhere")
		if err != nil {
			return nil, err
		}
		defer drop()
		if elsewhere, err = sql.Open("postgres", dsn); err != nil {
			return nil, err
		}
		defer elsewhere.Close()
	}
	results, err := g.raceLatency(ctx, cfg, ent, elsewhere)
	if err != nil {
		return nil, err
	}
	return newLatencyReport(cfg, g, results), nil
}

func (g *serverGroup) latencyVariants(cfg LatencyConfig, ent *entities) []variant {
	relay := func(w wakeUp) func(context.Context) (*pipeline, error) {
		return func(ctx context.Context) (*pipeline, error) { return g.startRelay(ctx, ent, w) }
	}
	all := []variant{
		{name: nameInProcess, topic: topicRelay, start: relay(inProcess), note: "relay in the writers' process, woken after each commit"},
		{name: namePolling, topic: topicRelay, start: relay(byPolling), note: "relay without wake-ups, which polls"},
		{name: nameListener, topic: topicRelay, start: relay(byListener), note: "relay woken through Postgres, as if it ran elsewhere"},
		{name: nameDirect, topic: topicRelay, start: g.startDirect, note: "the ceiling: no outbox, each message produced after its commit; a crash loses it"},
		{
			name: nameTuned, topic: topicForwarder, start: func(ctx context.Context) (*pipeline, error) { return g.startStock(ctx, ent) },
			note: "Watermill forwarder with a batch of 1000 and a poll interval of 1 ms; writers use its own publishers",
		},
	}
	switch {
	case cfg.Age > 0: // it takes long enough for one
		all = all[:1]
	case cfg.Alone:
		all = all[:len(all)-1]
	}
	if !cfg.LongTx {
		return all
	}
	for _, v := range all[:len(all):len(all)] {
		v.longTx = true
		v.note += "; a write transaction open in another database and a repeatable-read snapshot in this one"
		all = append(all, v)
	}
	return all
}

// raceLatency runs the rounds: each variant once, in rotating order.
func (g *serverGroup) raceLatency(ctx context.Context, cfg LatencyConfig, ent *entities, elsewhere *sql.DB) ([]*latencyResult, error) {
	variants := g.latencyVariants(cfg, ent)
	results := make([]*latencyResult, len(variants))
	for i, v := range variants {
		results[i] = &latencyResult{Name: v.name, LongTx: v.longTx, Note: v.note}
	}
	// What has just started is slow: the broker's code is not compiled yet.
	speed := pace{cfg.Rate, cfg.For, cfg.Writers, cfg.Age}
	warmUp, err := g.timeLatency(ctx, ent, variants[0], speed, elsewhere)
	if err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	g.line.Say("warm-up  %s", warmUp)
	for round := range cfg.Rounds {
		for i := range variants {
			at := (round + i) % len(variants)
			v := variants[at]
			if err := g.checkpoint(ctx); err != nil {
				return nil, err
			}
			t, err := g.timeLatency(ctx, ent, v, speed, elsewhere)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", v.name, round+1, err)
			}
			results[at].add(t)
			g.line.Say("round %d  %-16s long-tx=%-5t %s", round+1, v.name, v.longTx, t)
		}
	}
	return results, nil
}
