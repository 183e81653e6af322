package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/internal/failure"
)

// Breaker keeps a failing dependency from turning a whole topic into dead letters.
// It is closed while records are handled. When too many of a partition fail, it
// opens for that partition: no more of it is delivered, and what is at work is
// held, neither acknowledged nor given up. Then one of the held deliveries at a
// time is tried, at ProbeEvery; the first success closes the breaker, and all
// continue. Fatal failures do not count.
//
// A held delivery does not use up its retries. It is left unfinished when its
// context ends or its router stops; then the partition is delivered again, and its
// next record is the next one to be tried.
//
// A Breaker serves one subscriber; handlers use it by WithBreaker.
type Breaker struct {
	cfg BreakerConfig

	mu       sync.Mutex
	circuits map[circuitKey]*circuit

	// open is the number of open circuits. A breaker that opens for unavailable
	// dependencies only does no work for a delivery while it is 0.
	open atomic.Int64
}

type circuitKey struct {
	handler, group string
	partition
}

// NewBreaker returns a breaker.
func NewBreaker(cfg BreakerConfig) (*Breaker, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("consumer: breaker: %w", err)
	}
	return newBreaker(cfg), nil
}

func newBreaker(cfg BreakerConfig) *Breaker {
	return &Breaker{cfg: cfg.withDefaults(), circuits: map[circuitKey]*circuit{}}
}

// newUnavailableBreaker is the breaker of a handler that was given none.
func newUnavailableBreaker(cfg *Config, h *handler) *Breaker {
	return newBreaker(BreakerConfig{
		Pauser: h.pauser(), InARow: -1, Share: -1, ProbeEvery: cfg.ProbeEvery,
		Classify: h.classify, Unavailable: cfg.Unavailable, Hooks: cfg.Hooks,
	})
}

// BreakerStatus is the state of the breaker of one partition at one moment.
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
		c = newCircuit(b, k)
		b.circuits[k] = c
	}
	return c
}

// heldDelivery is what a breaker knows of one delivery.
type heldDelivery struct {
	circuit  *circuit
	series   int       // the series of failures that it is counted in
	since    time.Time // when it was first held
	released bool      // held too long: its retry policy decides about it
}

type heldKey struct{}

// around sees a delivery once. It counts the ones that used up their retries, and
// holds the one that opens the breaker.
func (b *Breaker) around(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		before := msg.Context()
		defer msg.SetContext(before)
		g := &heldDelivery{circuit: b.circuitOf(deliveryFrom(before))}
		ctx := context.WithValue(before, heldKey{}, g)
		g.circuit.enter()
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

// leave sees a delivery once. It is around for a breaker that counts only what it
// holds.
func (b *Breaker) leave(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		d := deliveryFrom(msg.Context())
		defer func() {
			if d.held != nil {
				d.held.circuit.leave()
			}
		}()
		return next(msg)
	}
}

// attempt sees each attempt of a delivery.
func (b *Breaker) attempt(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		g, _ := ctx.Value(heldKey{}).(*heldDelivery)
		if g == nil && b.open.Load() > 0 {
			g = b.hold(ctx)
		}
		for {
			probe := false
			if g != nil {
				var ok bool
				if probe, ok = g.circuit.wait(ctx, g); !ok {
					return nil, ErrUnfinished
				}
			}
			out, err := next(msg)
			msg.SetContext(ctx)
			w := b.judge(ctx, err)
			if g == nil {
				if w != unavailable {
					return out, err
				}
				g = b.hold(ctx)
			}
			if !g.circuit.report(g, probe, w, err) {
				return out, err
			}
		}
	}
}

// hold returns what the breaker knows of a delivery that around has not seen.
func (b *Breaker) hold(ctx context.Context) *heldDelivery {
	d := deliveryFrom(ctx)
	if d.held == nil {
		d.held = &heldDelivery{circuit: b.circuitOf(d)}
		d.held.circuit.enter()
	}
	return d.held
}

// weight is what a failure says about the dependency.
type weight int

const (
	nothing weight = iota // a fatal failure, or one under an ended context
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
	f, ok := errors.AsType[*failure.Error](err)
	return ok && (f.Disposition == deadletter.DispositionExhausted || f.Disposition == deadletter.DispositionTimeout)
}
