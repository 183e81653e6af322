package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
	migrations "github.com/millrace-go/millrace/sql"
)

// ConsumeConfig describes a benchmark of consumers.
type ConsumeConfig struct {
	Rows        int            `json:"rows"` // messages of each topic
	Rounds      int            `json:"rounds"`
	Payload     int            `json:"payload_bytes"`
	Keys        int            `json:"keys"`
	Every       int            `json:"poison_every"` // one message in so many is poison, where there is any
	DeadLetters int            `json:"dead_letters"` // dead letters to replay
	Alone       bool           `json:"alone"`        // without rivals
	Cap         time.Duration  `json:"-"`            // longest turn of a rival; it is measured by what it did until then
	Servers     servers.Config `json:"-"`
}

// Validate reports everything that is wrong with c.
func (c ConsumeConfig) Validate() error {
	return problems(
		need(c.Rows >= 100, "--rows: must be at least 100"),
		need(c.Rounds >= 1, "--rounds: must be at least 1"),
		need(c.Payload >= 64 && c.Payload <= 900_000, "--payload: must be 64 to 900000 bytes"),
		need(c.Keys >= 1, "--keys: must be at least 1"),
		need(c.Every >= 2 && c.Every <= c.Rows, "--poison-every: must be 2 to --rows"),
		need(c.DeadLetters >= 1, "--dead-letters: must be at least 1"),
		need(c.Cap >= time.Second, "--cap: must be at least 1s"),
	)
}

// consumeBench is the place where consumers compete.
type consumeBench struct {
	*serverGroup
	cfg     ConsumeConfig
	results []*consumeResult
	replay  *consumeResult
}

// Consume runs the benchmark.
func Consume(ctx context.Context, cfg ConsumeConfig, line *progress.Line) (*ConsumeReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g, err := newServerGroup(ctx, cfg.Servers, line)
	if err != nil {
		return nil, err
	}
	defer g.close()
	b := &consumeBench{serverGroup: g, cfg: cfg}
	if err := b.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	variants := b.variants()
	for _, v := range variants {
		b.results = append(b.results, &consumeResult{Name: v.name, Rows: cfg.Rows, Note: v.note})
	}
	b.replay = &consumeResult{Name: nameReplay, Rows: cfg.DeadLetters, Note: "dead letters sent back without a limit, progress committed"}
	for round := range cfg.Rounds {
		for i := range variants {
			at := (round + i) % len(variants)
			if err := b.turn(ctx, variants[at], round, b.results[at]); err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", variants[at].name, round+1, err)
			}
		}
		if err := b.replayDeadLetters(ctx, round); err != nil {
			return nil, fmt.Errorf("%s, round %d: %w", nameReplay, round+1, err)
		}
	}
	line.Done()
	return newConsumeReport(b), nil
}

// prepare makes the tables of the effects and fills the topics.
func (b *consumeBench) prepare(ctx context.Context) error {
	if _, err := migrations.Up(ctx, b.db, migrations.Outbox); err != nil {
		return err
	}
	for _, q := range []string{
		`CREATE TABLE bench_effect (event uuid NOT NULL, key text NOT NULL, body bytea NOT NULL)`,
		`CREATE TABLE bench_seen (event uuid PRIMARY KEY)`, // of the rivals, which have no inbox
	} {
		if _, err := b.db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	b.line.Say("writing %d messages of %d bytes over %d keys into each of %d topics", b.cfg.Rows, b.cfg.Payload, b.cfg.Keys, len(poisons))
	for _, p := range poisons {
		if err := b.fillTopic(ctx, p); err != nil {
			return fmt.Errorf("fill %s: %w", p.topic(), err)
		}
	}
	return nil
}

// turn measures one variant once and looks at what it did.
func (b *consumeBench) turn(ctx context.Context, v *consumer, round int, r *consumeResult) error {
	for _, q := range []string{`TRUNCATE bench_effect, bench_seen, consumer_inbox`, `CHECKPOINT`} {
		if _, err := b.db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	m := newMeter(b.cfg.Rows)
	group := fmt.Sprintf("bench-%s-%d", v.name, round)
	if err := b.clockConsumer(ctx, v, group, m); err != nil {
		return err
	}
	n, took := m.read()
	r.add(n, took, b.cfg.Rows)
	b.line.Say("round %d  %-26s %9.0f msg/s  (%d messages in %s)", round+1, v.name, float64(n)/took.Seconds(), n, took.Round(time.Millisecond))
	if v.ours {
		return b.countEffects(ctx, v, r)
	}
	return nil
}

// clockConsumer runs v until it is done with all messages, or its time is up.
func (b *consumeBench) clockConsumer(ctx context.Context, v *consumer, group string, m *meter) error {
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- v.run(runCtx, group, m) }()
	limit := readBudget
	if !v.ours {
		limit = b.cfg.Cap
	}
	err := m.wait(ctx, limit, done, func(n int) { b.line.Show("%s: %d of %d messages", v.name, n, b.cfg.Rows) })
	if err != nil {
		return err
	}
	cancel()
	return <-done
}
