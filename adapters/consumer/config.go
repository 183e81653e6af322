package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

// Topics answers which topics the broker has; kafka.Admin is one.
type Topics interface {
	// Partitions returns the number of partitions of topic, and an error if
	// there is no such topic or the broker cannot be asked.
	Partitions(ctx context.Context, topic string) (int, error)
}

// Config configures a Router. Only DeadLetters is required.
type Config struct {
	// DeadLetters takes the records of messages that were given up; what it must
	// keep to is at DeadLetterConfig.Publisher. The router never closes it.
	DeadLetters message.Publisher
	// Topics, if set, lets Run refuse to start when a source topic is missing or
	// its dead-letter topic is missing or has fewer partitions. Default none:
	// topics are not looked up.
	Topics Topics
	// Tracer continues the trace of each record. Default none.
	Tracer Tracer
	// Retry is the policy of handlers that set none. Default FixedBackOff(500 ms, 3).
	Retry Policy
	// Timeout bounds one attempt of a handler; -1 is off. Default 10 s.
	Timeout time.Duration
	// HangAfter is how long a handler may go on after its time is up. Then Run
	// stops, so that other members get its partitions, and returns ErrHung: let the
	// process end with it and be started anew, as nothing else ends a handler that
	// hangs. Handlers without a timeout are not watched. Default 1 min, -1 is off.
	HangAfter time.Duration
	// Classify decides between retry and dead letter. Default Classify.
	Classify func(error) Verdict
	// DrainTimeout bounds how long Run waits, once its context ended, for the
	// subscriptions to drain and the handlers to finish; then the contexts of
	// the handlers end. Default 20 s.
	DrainTimeout time.Duration
	// DeadLetterWait and MaxDeadLetterWait bound the waits between attempts to
	// publish one dead letter. Defaults 1 s and 30 s.
	DeadLetterWait    time.Duration
	MaxDeadLetterWait time.Duration
	// Logger takes what Watermill's router logs. Default none.
	Logger watermill.LoggerAdapter
	// Hooks tell of what happens. Default none.
	Hooks Hooks
}

// Validate names every field that is missing or out of range.
func (c *Config) Validate() error {
	var errs []error
	if c.DeadLetters == nil {
		errs = append(errs, errors.New("dead letters: publisher is missing"))
	}
	if c.Timeout < -1 {
		errs = append(errs, fmt.Errorf("timeout must be positive or -1, is %s", c.Timeout))
	}
	if c.HangAfter < -1 {
		errs = append(errs, fmt.Errorf("hang after must be positive or -1, is %s", c.HangAfter))
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"drain timeout", c.DrainTimeout}, {"dead letter wait", c.DeadLetterWait}, {"max dead letter wait", c.MaxDeadLetterWait}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative, is %s", d.field, d.value))
		}
	}
	return errors.Join(append(errs, c.Retry.Validate())...)
}

func (c *Config) setDefaults() {
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.HangAfter == 0 {
		c.HangAfter = time.Minute
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 20 * time.Second
	}
	if c.Classify == nil {
		c.Classify = Classify
	}
	if c.Logger == nil {
		c.Logger = watermill.NopLogger{}
	}
}

// TopicsFunc makes Topics of a function.
type TopicsFunc func(ctx context.Context, topic string) (int, error)

// Partitions calls f.
func (f TopicsFunc) Partitions(ctx context.Context, topic string) (int, error) { return f(ctx, topic) }
