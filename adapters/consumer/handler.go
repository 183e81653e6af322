package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
)

// handler is one registration.
type handler struct {
	name        string
	topic       string
	deadLetters string
	group       string
	sub         message.Subscriber
	fn          message.NoPublishHandlerFunc
	batches     BatchSubscriber // instead of sub and fn
	batch       BatchFunc
	parallel    int // of a batch handler, see WithParallel
	retry       Policy
	timeout     time.Duration
	classify    func(error) Verdict
	around      []message.HandlerMiddleware
	inside      []message.HandlerMiddleware
}

// validate names everything that is wrong with the registration.
func (h *handler) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("handler %q: "+format, append([]any{h.name}, args...)...))
		}
	}
	check(h.name != "", "name is missing")
	check(records.IsTopic(h.topic), "topic %q is not a topic name", h.topic)
	check(records.IsTopic(h.deadLetters), "dead-letter topic %q is not a topic name", h.deadLetters)
	check(h.deadLetters != h.topic, "dead-letter topic is the source topic %q", h.topic)
	check(h.sub != nil || h.batches != nil, "subscriber is missing")
	check(h.fn != nil, "handler function is missing")
	check(h.parallel >= 0, "parallel must not be negative, is %d", h.parallel)
	check(h.parallel == 0 || h.batch != nil, "parallel is for batch handlers")
	check(h.timeout >= -1, "timeout must be positive or -1, is %s", h.timeout)
	if err := h.retry.Validate(); err != nil {
		check(false, "%w", err)
	}
	return errors.Join(errs...)
}

// closer is the handler's subscriber.
func (h *handler) closer() io.Closer {
	if h.batches != nil {
		return h.batches
	}
	return h.sub
}

// validateTopics asks the broker for the handler's topics.
func (h *handler) validateTopics(ctx context.Context, topics Topics) error {
	source, err := topics.Partitions(ctx, h.topic)
	if err != nil {
		return fmt.Errorf("handler %q: topic %q: %w", h.name, h.topic, err)
	}
	dead, err := topics.Partitions(ctx, h.deadLetters)
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
func (h *handler) chain(cfg *Config) ([]message.HandlerMiddleware, error) {
	dead, err := DeadLetter(DeadLetterConfig{
		Publisher:    cfg.DeadLetters,
		Topic:        func(string) string { return h.deadLetters },
		Group:        h.group,
		Classify:     h.classify,
		Tracer:       cfg.Tracer,
		RetryWait:    cfg.DeadLetterWait,
		MaxRetryWait: cfg.MaxDeadLetterWait,
		Hooks:        cfg.Hooks,
	})
	if err != nil {
		return nil, err
	}
	var chain []message.HandlerMiddleware
	if cfg.Tracer != nil {
		chain = append(chain, Trace(cfg.Tracer))
	}
	chain = append(chain, TargetGroup(h.group), dead)
	chain = append(chain, h.around...)
	chain = append(chain, Retry(RetryConfig{Policy: h.retry, Classify: h.classify, Hooks: cfg.Hooks}))
	chain = append(chain, h.inside...)
	if h.batch != nil {
		chain = append(chain, atMost(cmp.Or(h.parallel, defaultParallel)))
	}
	if h.timeout > 0 && cfg.HangAfter > 0 {
		chain = append(chain, watchdog(h.timeout+cfg.HangAfter))
	}
	if h.timeout > 0 {
		chain = append(chain, Timeout(h.timeout))
	}
	return append(chain, Recover(cfg.Hooks)), nil
}
