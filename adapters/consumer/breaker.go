package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

// Breaker keeps a failing dependency from draining a topic into the dead letters.
// It is closed while records are handled. When too many of a partition fail, it
// opens for that partition: no more of it is delivered, and what is at work is
// held, neither acknowledged nor given up. Then one of the held deliveries at a
// time is tried, at ProbeEvery; the first success closes the breaker, and all go
// on. Failures that no retry can heal do not count.
//
// A held delivery does not use up its retries. It is left unfinished when its
// context ends or its router stops; then the partition is delivered again, and
// the next record of it is the next one to be tried.
//
// A Breaker serves one subscriber; handlers use it by WithBreaker.
type Breaker struct {
	cfg BreakerConfig

	mu       sync.Mutex
	circuits map[circuitKey]*circuit
}

type circuitKey struct {
	handler, group string
	partition
}

// NewBreaker returns a breaker, or an error that names every wrong field.
func NewBreaker(cfg BreakerConfig) (*Breaker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	cfg.setDefaults()
	return &Breaker{cfg: cfg, circuits: map[circuitKey]*circuit{}}, nil
}

// WithBreaker puts the handler behind b.
func WithBreaker(b *Breaker) Option {
	return func(h *handler) {
		h.around = append(h.around, b.around)
		h.inside = append([]message.HandlerMiddleware{b.attempt}, h.inside...)
	}
}

// BreakerStatus is a moment of the breaker of one partition.
type BreakerStatus struct {
	Handler   string
	Topic     string
	Group     string
	Partition int32
	Open      bool      // and there is a delivery to try: the partition is paused
	Since     time.Time // when it opened
	Held      int       // deliveries that wait
	Probes    int       // failed attempts since it opened
	Err       error     // the last failure that counted
}

// Status lists the partitions that the breaker has paused, by handler, topic and
// partition.
func (b *Breaker) Status() []BreakerStatus {
	b.mu.Lock()
	all := make([]*circuit, 0, len(b.circuits))
	for _, c := range b.circuits {
		all = append(all, c)
	}
	b.mu.Unlock()
	var open []BreakerStatus
	for _, c := range all {
		if st := c.status(); st.Open {
			open = append(open, st)
		}
	}
	slices.SortFunc(open, func(x, y BreakerStatus) int {
		return cmp.Or(cmp.Compare(x.Handler, y.Handler), cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
	})
	return open
}

func (b *Breaker) circuitOf(d *state) *circuit {
	k := circuitKey{d.Handler, d.Group, partition{d.Topic, d.Partition}}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.circuits[k]
	if c == nil {
		c = newCircuit(&b.cfg, k)
		b.circuits[k] = c
	}
	return c
}

// guarding is what the breaker knows of one delivery.
type guarding struct {
	circuit *circuit
	row     int       // the row of failures that it is counted in
	since   time.Time // when it was first held
	gone    bool      // held too long: it goes its way
}

type guardingKey struct{}

// around sees a delivery once. It counts the ones that used up their retries, and
// holds the one that opens the breaker.
func (b *Breaker) around(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		before := msg.Context()
		defer msg.SetContext(before)
		g := &guarding{circuit: b.circuitOf(deliveryFrom(before))}
		ctx := context.WithValue(before, guardingKey{}, g)
		g.circuit.come()
		defer g.circuit.leave()
		for {
			msg.SetContext(ctx)
			out, err := next(msg)
			if unfinished(before, err) || !g.circuit.conclude(g, err) {
				return out, err
			}
		}
	}
}

// attempt sees each attempt of a delivery.
func (b *Breaker) attempt(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		g, ok := ctx.Value(guardingKey{}).(*guarding)
		if !ok {
			return next(msg)
		}
		for {
			probe, ok := g.circuit.enter(ctx, g)
			if !ok {
				return nil, ErrUnfinished
			}
			out, err := next(msg)
			msg.SetContext(ctx)
			if !g.circuit.report(g, probe, b.judge(ctx, err), err) {
				return out, err
			}
		}
	}
}

// weight is what a failure says about the dependency.
type weight int

const (
	nothing weight = iota // of a fatal failure, or one under an ended context
	success
	failing
	unavailable
)

func (b *Breaker) judge(ctx context.Context, err error) weight {
	switch {
	case err == nil:
		return success
	case unfinished(ctx, err), b.cfg.Classify(err) == VerdictFatal:
		return nothing
	case b.cfg.Unavailable(err):
		return unavailable
	default:
		return failing
	}
}

// usedUp reports the error of a delivery that used up its retries.
func usedUp(err error) bool {
	f, ok := errors.AsType[*FailureError](err)
	return ok && (f.Disposition == deadletter.DispositionExhausted || f.Disposition == deadletter.DispositionTimeout)
}
