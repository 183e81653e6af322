package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/internal/missing"
	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// handler is one registration.
type handler struct {
	name        string
	topic       string
	deadLetters string
	group       string
	sub         message.Subscriber
	fn          message.NoPublishHandlerFunc
	isBatch     bool
	batches     BatchSubscriber // of a batch handler, instead of sub
	batch       BatchFunc
	parallel    int // of a batch handler, see WithParallel
	retry       Policy
	timeout     time.Duration
	classify    func(error) Verdict
	around      []message.HandlerMiddleware
	inside      []message.HandlerMiddleware
	breaker     *Breaker // of the router; nil if the handler has its own or none
	ownBreaker  bool     // set by WithBreaker
}

func newHandler(name, topic string, cfg *Config, opts []Option) *handler {
	h := &handler{
		name: name, topic: topic, deadLetters: deadletter.Topic(topic), group: name,
		retry: cfg.Retry, timeout: cfg.Timeout, classify: cfg.Classify,
	}
	for _, opt := range opts {
		opt(h)
	}
	h.timeout = cmp.Or(h.timeout, cfg.Timeout)
	if h.classify == nil {
		h.classify = cfg.Classify
	}
	return h
}

// validate names everything that is wrong with the registration.
func (h *handler) validate() error {
	l := h.problems()
	l.Unless(h.sub != nil || h.batches != nil, "subscriber", "must not be nil")
	l.Unless(!isMissing(h.fn) && (!h.isBatch || !isMissing(h.batch)), "handler function", "must not be nil")
	l.Unless(h.parallel == 0 || h.isBatch, "WithParallel", "must not be given to a handler of single messages")
	all, ok := l.Err().(interface{ Unwrap() []error }) // the list itself, to name the handler in each line
	if !ok {
		return nil
	}
	var errs []error
	for _, err := range all.Unwrap() {
		errs = append(errs, fmt.Errorf("handler %q: %w", h.name, err))
	}
	return errors.Join(errs...)
}

func (h *handler) problems() *problems.List {
	var l problems.List
	l.Unless(h.name != "", "name", "must be set, is %q", h.name)
	l.Unless(records.IsTopic(h.topic), "topic", "must be the name of a topic, is %q", h.topic)
	l.Unless(records.IsTopic(h.deadLetters), "dead-letter topic", "must be the name of a topic, is %q", h.deadLetters)
	l.Unless(h.deadLetters != h.topic, "dead-letter topic", "must not be the source topic, is %q", h.deadLetters)
	problems.AtLeast(&l, "WithParallel", h.parallel, 0)
	l.Unless(h.timeout >= -1, "WithTimeout", "must be positive or -1, is %s", h.timeout)
	l.Add("WithRetry", h.retry.validate())
	return &l
}

// isMissing reports whether fn is nil, or made by Typed and its like of nil.
func isMissing(fn any) bool {
	v := reflect.ValueOf(fn)
	return v.IsNil() || v.Pointer() == reflect.ValueOf(missing.Handler).Pointer() || v.Pointer() == reflect.ValueOf(missing.Batch).Pointer()
}

// closer is the handler's subscriber.
func (h *handler) closer() io.Closer {
	if h.isBatch {
		return h.batches
	}
	return h.sub
}

// pauser is the handler's subscriber, if it can pause partitions.
func (h *handler) pauser() Pauser {
	p, _ := h.closer().(Pauser)
	return p
}

// validateTopics asks the broker for the handler's topics.
func (h *handler) validateTopics(ctx context.Context, partitions func(context.Context, string) (int, error)) error {
	source, err := partitions(ctx, h.topic)
	if err != nil {
		return fmt.Errorf("handler %q: topic %q: %w", h.name, h.topic, err)
	}
	dead, err := partitions(ctx, h.deadLetters)
	if err != nil {
		return fmt.Errorf("handler %q: dead-letter topic %q: %w", h.name, h.deadLetters, err)
	}
	if dead < source {
		return fmt.Errorf("handler %q: dead-letter topic %q has %d partitions, fewer than the %d of %q",
			h.name, h.deadLetters, dead, source, h.topic)
	}
	return nil
}

// chain is the handler's middlewares, outermost first.
func (h *handler) chain(deadLetters message.Publisher, cfg *Config) []message.HandlerMiddleware {
	var chain []message.HandlerMiddleware
	if cfg.Tracer != nil {
		chain = append(chain, Trace(cfg.Tracer))
	}
	chain = append(chain, newTargetGroup(h.group), newDeadLetter(deadLetterConfig{
		publisher: deadLetters, topic: h.deadLetters, group: h.group, classify: h.classify, tracer: cfg.Tracer,
		waits: backoff.Doubling{First: cfg.DeadLetterWait, Max: cfg.MaxDeadLetterWait}, hooks: cfg.Hooks,
	}))
	if h.breaker != nil {
		chain = append(chain, h.breaker.leave)
	}
	chain = append(chain, h.around...)
	chain = append(chain, newRetry(retryConfig{policy: h.retry, classify: h.classify, hooks: cfg.Hooks}))
	if h.breaker != nil {
		chain = append(chain, h.breaker.attempt)
	}
	chain = append(chain, h.inside...)
	if h.isBatch {
		chain = append(chain, atMost(cmp.Or(h.parallel, defaultParallel)))
	}
	if h.timeout > 0 && cfg.HangAfter > 0 {
		chain = append(chain, newWatchdog(h.timeout+cfg.HangAfter))
	}
	if h.timeout > 0 {
		chain = append(chain, newTimeout(h.timeout))
	}
	return append(chain, newRecover(cfg.Hooks))
}

// Middlewares returns the chain of a Router's handler, outermost first, for a
// handler on a stock message.Router. deadLetters and cfg are as for New; of cfg,
// Partitions, HangAfter, Unavailable, ProbeEvery, DrainTimeout and Logger have no
// effect, since they need a Router. name is the handler's in hooks.
func Middlewares(name, topic string, deadLetters message.Publisher, cfg Config, opts ...Option) ([]message.HandlerMiddleware, error) {
	h := newHandler(name, topic, &cfg, opts)
	l := h.problems()
	problems.NotNil(l, "deadLetters", deadLetters != nil)
	l.AddAll(cfg.validate())
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	cfg = cfg.withDefaults()
	h = newHandler(name, topic, &cfg, opts)
	return h.chain(deadLetters, &cfg), nil
}
