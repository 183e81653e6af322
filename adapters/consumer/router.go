package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

var (
	// ErrSubscriptionEnded means that a subscriber closed its channel by itself
	// while the router was running.
	ErrSubscriptionEnded = errors.New("subscription ended")
	// ErrStillRunning means that handlers ignored the end of their context: Run
	// returned without waiting for them.
	ErrStillRunning = errors.New("handlers still running")
	// ErrUsed means that Run was called a second time.
	ErrUsed = errors.New("router has already run")
)

// Router runs handlers, each behind the chain that the package describes, on
// Watermill's router. Register all handlers, then call Run once.
type Router struct {
	deadLetters message.Publisher
	cfg         Config
	handlers    []*handler
	breakers    []*Breaker // of handlers that have none of their own
	used        atomic.Bool
	inflight    inflight
	blocked     atomic.Int64
	running     chan struct{}
}

// New returns a router. deadLetters publishes the dead letters. It must return only
// once the broker has them, and should honour the record.Record in the message's
// context; without that, partition and repeated headers are lost. It must accept
// 64 KiB more than the source topics do: of a dead letter that is too large, the
// value is left out. The router never closes it.
func New(deadLetters message.Publisher, cfg Config) (*Router, error) {
	var l problems.List
	problems.NotNil(&l, "deadLetters", deadLetters != nil)
	l.AddAll(cfg.validate())
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	return &Router{deadLetters: deadLetters, cfg: cfg.withDefaults(), running: make(chan struct{})}, nil
}

// Handle registers fn for the messages of topic. Its name is unique in the router
// and appears in hooks and logs.
//
// When the context of a subscription ends, sub must drain: deliver what it still
// has to, leave the contexts of its messages alive for a while, and close the
// channel. Package kafka's does; wrap others in Draining. Run closes sub at its
// end, once for each handler that shares it.
//
// Validate and Run report everything that is wrong with the wiring, all at once.
func (r *Router) Handle(name, topic string, sub message.Subscriber, fn message.NoPublishHandlerFunc, opts ...Option) {
	h := newHandler(name, topic, &r.cfg, opts)
	h.sub, h.fn = sub, fn
	r.add(h)
}

func (r *Router) add(h *handler) {
	if !h.ownBreaker && (h.sub != nil || h.batches != nil) {
		h.breaker = newUnavailableBreaker(&r.cfg, h)
		r.breakers = append(r.breakers, h.breaker)
	}
	r.handlers = append(r.handlers, h)
}

// Validate reports everything that is wrong with the wiring, as far as that is
// known without asking the broker.
func (r *Router) Validate() error {
	var errs []error
	if len(r.handlers) == 0 {
		errs = append(errs, errors.New("no handlers"))
	}
	for i, h := range r.handlers {
		errs = append(errs, h.validate())
		if slices.ContainsFunc(r.handlers[:i], func(o *handler) bool { return o.name == h.name }) {
			errs = append(errs, fmt.Errorf("handler %q: name is already used", h.name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	return nil
}

func (r *Router) validateTopics(ctx context.Context) error {
	if r.cfg.Partitions == nil {
		return nil
	}
	var errs []error
	for _, h := range r.handlers {
		errs = append(errs, h.validateTopics(ctx, r.cfg.Partitions))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	return nil
}

// Running is closed once Run has subscribed all handlers.
func (r *Router) Running() <-chan struct{} { return r.running }

// Status is the state of a router at one moment.
type Status struct {
	// InFlight is the number of deliveries at work.
	InFlight int
	// DeadLettersBlocked is the number of deliveries that hold up their key or
	// partition because their dead letter cannot be published: degraded.
	DeadLettersBlocked int
	// Paused are the partitions that wait for an unavailable dependency of their
	// handler. Those of a breaker given with WithBreaker are not in it.
	Paused []BreakerStatus
}

// Status may be called at any time.
func (r *Router) Status() Status {
	st := Status{InFlight: r.inflight.count(), DeadLettersBlocked: int(r.blocked.Load())}
	for _, b := range r.breakers {
		st.Paused = append(st.Paused, b.Status()...)
	}
	return st
}
