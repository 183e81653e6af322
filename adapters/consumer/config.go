package consumer

import (
	"cmp"
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// Config configures a Router. The zero value is usable.
type Config struct {
	// Partitions returns the number of partitions of a topic, or an error if the
	// topic does not exist; kafka.Admin has such a method. With it Run refuses to
	// start when a source topic is missing, or when its dead-letter topic is missing
	// or has fewer partitions. Default none: topics are not checked.
	Partitions func(ctx context.Context, topic string) (int, error)
	// Tracer continues the trace of each record. Default none.
	Tracer Tracer
	// Retry is the policy of handlers that set none. Default FixedBackOff(500 ms, 3).
	Retry Policy
	// Timeout bounds one attempt of a handler; -1 is off. Default 10 s.
	Timeout time.Duration
	// HangAfter is how long a handler may continue after its timeout. Then Run stops,
	// so that other members get its partitions, and returns ErrHung. End the process
	// and start it again, as nothing else ends a handler that hangs. Handlers
	// without a timeout are not watched; -1 is off. Default 1 min.
	HangAfter time.Duration
	// Classify decides between retry and dead letter. Default Classify.
	Classify func(error) Verdict
	// Unavailable says which failures mean that a dependency of the handler cannot
	// be reached. Such a failure makes no dead letter: the delivery is held and its
	// partition paused until an attempt reaches the dependency again. Handlers with
	// a breaker of their own (WithBreaker) are not affected. Return false to treat
	// these failures like any other. Default IsUnavailable.
	Unavailable func(error) bool
	// ProbeEvery is the time between attempts to reach an unavailable dependency.
	// Default 10 s.
	ProbeEvery time.Duration
	// DrainTimeout bounds how long Run waits, once its context has ended, for the
	// subscriptions to drain and the handlers to finish; then the contexts of the
	// handlers end. Default 20 s.
	DrainTimeout time.Duration
	// DeadLetterWait is the wait after a dead letter could not be published. It
	// doubles with each further failure, up to MaxDeadLetterWait. Default 1 s.
	DeadLetterWait time.Duration
	// MaxDeadLetterWait is the longest such wait. Default 30 s.
	MaxDeadLetterWait time.Duration
	// Logger receives what Watermill's router logs. Default none.
	Logger watermill.LoggerAdapter
	// Hooks report what happens. Default none.
	Hooks Hooks
}

func (c Config) validate() error {
	var l problems.List
	l.Unless(c.Timeout >= -1, "Timeout", "must be positive or -1, is %s", c.Timeout)
	l.Unless(c.HangAfter >= -1, "HangAfter", "must be positive or -1, is %s", c.HangAfter)
	problems.AtLeast(&l, "ProbeEvery", c.ProbeEvery, 0)
	problems.AtLeast(&l, "DrainTimeout", c.DrainTimeout, 0)
	problems.AtLeast(&l, "DeadLetterWait", c.DeadLetterWait, 0)
	problems.AtLeast(&l, "MaxDeadLetterWait", c.MaxDeadLetterWait, 0)
	l.Add("Retry", c.Retry.validate())
	return l.Err()
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.HangAfter = cmp.Or(c.HangAfter, time.Minute)
	c.ProbeEvery = cmp.Or(c.ProbeEvery, 10*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 20*time.Second)
	c.DeadLetterWait = cmp.Or(c.DeadLetterWait, time.Second)
	c.MaxDeadLetterWait = cmp.Or(c.MaxDeadLetterWait, 30*time.Second)
	if c.Classify == nil {
		c.Classify = Classify
	}
	if c.Unavailable == nil {
		c.Unavailable = IsUnavailable
	}
	if c.Logger == nil {
		c.Logger = watermill.NopLogger{}
	}
	c.Hooks = c.Hooks.withDefaults()
	return c
}
