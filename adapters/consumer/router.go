package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

var (
	// ErrSubscriptionEnded means that a subscriber closed its messages by itself
	// while the router was to go on.
	ErrSubscriptionEnded = errors.New("subscription ended")
	// ErrStillRunning means that handlers ignored the end of their context: Run
	// returned without them.
	ErrStillRunning = errors.New("handlers still running")
	// ErrUsed means that Run was called a second time.
	ErrUsed = errors.New("router has already run")
)

// Router runs handlers, each behind the chain that the package describes, on
// Watermill's router. Register all handlers with Handle, then call Run once.
type Router struct {
	cfg      Config
	handlers []*handler
	used     atomic.Bool
	inflight inflight
	blocked  atomic.Int64
	running  chan struct{}
}

// New returns a router, or an error that names every wrong field.
func New(cfg Config) (*Router, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	cfg.setDefaults()
	return &Router{cfg: cfg, running: make(chan struct{})}, nil
}

// Handle registers fn for the messages of topic. Its name is unique in the
// router and names it in hooks and logs.
//
// When the context of a subscription ends, sub is to hand out what it still
// must, to leave the contexts of its messages alive for a while, and to close the
// channel, as package kafka's does; wrap others in Draining. Run closes sub at
// its end, once for each handler that shares it.
//
// What is wrong with the wiring is reported by Validate and by Run, all at once.
func (r *Router) Handle(name, topic string, sub message.Subscriber, fn message.NoPublishHandlerFunc, opts ...Option) {
	r.add(&handler{name: name, topic: topic, sub: sub, fn: fn}, opts)
}

func (r *Router) add(h *handler, opts []Option) {
	h.deadLetters, h.group = deadletter.Topic(h.topic), h.name
	h.retry, h.timeout, h.classify = r.cfg.Retry, r.cfg.Timeout, r.cfg.Classify
	for _, opt := range opts {
		opt(h)
	}
	if h.timeout == 0 {
		h.timeout = r.cfg.Timeout
	}
	if h.classify == nil {
		h.classify = r.cfg.Classify
	}
	r.handlers = append(r.handlers, h)
}

// Validate reports everything that is wrong with the wiring and can be seen
// without asking the broker.
func (r *Router) Validate() error {
	var errs []error
	if len(r.handlers) == 0 {
		errs = append(errs, errors.New("no handlers"))
	}
	for i, h := range r.handlers {
		errs = append(errs, h.validate())
		if slices.ContainsFunc(r.handlers[:i], func(o *handler) bool { return o.name == h.name }) {
			errs = append(errs, fmt.Errorf("handler %q: name is taken", h.name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	return nil
}

func (r *Router) validateTopics(ctx context.Context) error {
	if r.cfg.Topics == nil {
		return nil
	}
	var errs []error
	for _, h := range r.handlers {
		errs = append(errs, h.validateTopics(ctx, r.cfg.Topics))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	return nil
}

// Running is closed once Run has subscribed all handlers.
func (r *Router) Running() <-chan struct{} { return r.running }

// Status is a moment of a router.
type Status struct {
	// InFlight is the number of deliveries at work.
	InFlight int
	// DeadLettersBlocked is the number of deliveries that hold up their key or
	// partition because their dead letter cannot be published: degraded.
	DeadLettersBlocked int
}

// Status may be called at any time.
func (r *Router) Status() Status {
	return Status{InFlight: r.inflight.count(), DeadLettersBlocked: int(r.blocked.Load())}
}
