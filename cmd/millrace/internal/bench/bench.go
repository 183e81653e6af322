// Package bench measures how fast a backlog in the outbox reaches Kafka: by the
// relay, by Watermill's forwarder as it comes and tuned, and by a loop without
// any guarantee that shows what the machine can do. All carry the same rows to
// the same broker, in turns, and an independent reader checks each round.
package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// Config describes one benchmark.
type Config struct {
	Rows    int            `json:"rows"`
	Rounds  int            `json:"rounds"`
	Payload int            `json:"payload_bytes"`
	Keys    int            `json:"keys"`
	Child   bool           `json:"child"` // the relay is a process of its own
	Alone   bool           `json:"alone"` // without rivals
	Program string         `json:"-"`     // the millrace to run as a child
	Cap     time.Duration  `json:"-"`     // longest round; a slower rival is measured by what it did until then
	Servers servers.Config `json:"-"`
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	need := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	need(c.Rows >= 1, "--rows: must be at least 1")
	need(c.Rounds >= 1, "--rounds: must be at least 1")
	need(c.Payload >= 20 && c.Payload <= 900_000, "--payload: must be 20 to 900000 bytes")
	need(c.Keys >= 1, "--keys: must be at least 1")
	need(c.Cap >= time.Second, "--cap: must be at least 1s")
	return errors.Join(errs...)
}

const (
	partitions = 4
	readBudget = 5 * time.Minute // for reading one round back
)

// drainBench runs the rivals in turns.
type drainBench struct {
	*serverGroup
	cfg   Config
	truth []check.Event
	peaks []float64 // of the relay's memory, one a round, if it is a child
}

// Drain runs the benchmark.
func Drain(ctx context.Context, cfg Config, line *progress.Line) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g, err := newServerGroup(ctx, cfg.Servers, line)
	if err != nil {
		return nil, err
	}
	defer g.close()
	a := &drainBench{serverGroup: g, cfg: cfg}
	if err := a.fill(ctx); err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	results, err := a.compete(ctx, a.rivals())
	if err != nil {
		return nil, err
	}
	results[0].PeakRSS = a.peaks
	return newReport(cfg, g, results), nil
}

// compete runs the rounds: in each one every rival once, in rotating order, so
// that what happens to the machine meanwhile happens to all.
func (a *drainBench) compete(ctx context.Context, rivals []*rival) ([]*result, error) {
	results := make([]*result, len(rivals))
	for i, r := range rivals {
		results[i] = &result{Name: r.name, Rows: a.cfg.Rows, Note: r.note}
		if err := a.set.CreateTopic(ctx, r.topic, partitions); err != nil {
			return nil, err
		}
	}
	for round := range a.cfg.Rounds {
		for i := range rivals {
			at := (round + i) % len(rivals)
			if err := a.round(ctx, rivals[at], round, results[at]); err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", rivals[at].name, round+1, err)
			}
		}
	}
	a.line.Done()
	return results, nil
}
