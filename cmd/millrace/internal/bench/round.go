package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
)

// rival is one way to carry the backlog to Kafka.
type rival struct {
	name  string
	note  string
	topic string
	// run carries the rows to the topic, from the first one on, until ctx ends.
	run func(ctx context.Context, round int) error
}

// pollEvery is how often the topic's end is looked at: the resolution of the clock.
const pollEvery = 5 * time.Millisecond

// round measures r once and checks what it did.
func (a *drainBench) round(ctx context.Context, r *rival, round int, res *result) error {
	if err := a.checkpoint(ctx); err != nil {
		return err
	}
	from, err := a.broker.Ends(ctx, r.topic)
	if err != nil {
		return err
	}
	delivered, took, err := a.clock(ctx, r, round, from)
	if err != nil {
		return err
	}
	res.add(delivered, took, a.cfg.Rows)
	a.line.Say("round %d  %-16s %9.0f msg/s  (%d rows in %s)", round+1, r.name, float64(delivered)/took.Seconds(), delivered, took.Round(time.Millisecond))
	return a.judge(ctx, r, from, delivered, res)
}

// clock runs r until all rows are in the topic or the time is up, and returns
// how many arrived in which time. The rival has stopped when it returns.
func (a *drainBench) clock(ctx context.Context, r *rival, round int, from check.Offsets) (int, time.Duration, error) {
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- r.run(runCtx, round) }()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	base := from.Sum()
	for {
		select {
		case err := <-done:
			return 0, 0, fmt.Errorf("stopped by itself: %w", errors.Join(err, ctx.Err()))
		case <-tick.C:
		}
		ends, err := a.broker.Ends(ctx, r.topic)
		took := time.Since(start)
		if err != nil {
			cancel()
			return 0, 0, errors.Join(err, <-done)
		}
		n := int(ends.Sum() - base)
		a.line.Show("round %d  %s: %d of %d rows, %.0f msg/s", round+1, r.name, n, a.cfg.Rows, float64(n)/took.Seconds())
		if n >= a.cfg.Rows || took >= a.cfg.Cap {
			cancel()
			return min(n, a.cfg.Rows), took, <-done
		}
	}
}

// judge reads the round back. A round that was cut short is judged for order and
// duplicates only.
func (a *drainBench) judge(ctx context.Context, r *rival, from check.Offsets, delivered int, res *result) error {
	ctx, cancel := context.WithTimeout(ctx, readBudget)
	defer cancel()
	to, err := a.broker.Ends(ctx, r.topic)
	if err != nil {
		return err
	}
	tally := check.NewTally()
	if err := a.broker.Read(ctx, r.topic, from, to, func(rec check.Record) { tally.Deliver(rec) }); err != nil {
		return err
	}
	v := tally.Judge(a.truth)
	if delivered < a.cfg.Rows {
		v.Lost = 0
	}
	res.Checks.Lost += v.Lost + v.Ghosts
	res.Checks.Reordered += v.Reordered
	res.Checks.Duplicates += v.Duplicates
	return nil
}
