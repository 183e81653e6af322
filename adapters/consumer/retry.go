package consumer

import (
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/internal/delivery"
)

// RetryConfig configures Retry. The zero value is useful.
type RetryConfig struct {
	// Policy is FixedBackOff(500 ms, 3) by default.
	Policy Policy
	// Classify decides between retry and giving up. Default Classify.
	Classify func(error) Verdict
	// Hooks tell of what happens. Default none.
	Hooks Hooks
}

// Retry is a middleware that repeats a failed delivery by its policy and returns
// a FailureError when it gives up. It keeps the cap of Policy.PerMinute for all
// messages that pass it. A wait ends with the message's context; a
// failure under an ended context is ErrUnfinished.
func Retry(cfg RetryConfig) message.HandlerMiddleware {
	if cfg.Classify == nil {
		cfg.Classify = Classify
	}
	spent := newAllowance(cfg.Policy.perMinute)
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			return retry(cfg, spent, msg, next)
		}
	}
}

func retry(cfg RetryConfig, spent *allowance, msg *message.Message, next message.HandlerFunc) ([]*message.Message, error) {
	ctx := msg.Context()
	d := deliveryFrom(ctx)
	for attempt := 1; ; attempt++ {
		d.Attempts = attempt
		out, err := attempted(d, msg, next)
		msg.SetContext(ctx)
		if err == nil {
			return out, nil
		}
		if unfinished(ctx, err) {
			return nil, ErrUnfinished
		}
		verdict := cfg.Classify(err)
		wait, more := cfg.Policy.Delay(attempt, rand.Float64())
		if verdict == VerdictFatal || !more || !spent.take(d, wait, time.Now()) {
			return nil, &FailureError{Attempts: attempt, Disposition: dispositionOf(err, verdict), Err: err}
		}
		cfg.Hooks.retrying(d.Delivery, err, wait)
		if !delivery.Sleep(ctx, wait) {
			return nil, ErrUnfinished
		}
	}
}

// attempted calls the handler, unless the attempt was made before: see BatchError.
func attempted(d *state, msg *message.Message, next message.HandlerFunc) ([]*message.Message, error) {
	if err := d.first; err != nil {
		d.first = nil
		return nil, err
	}
	return next(msg)
}
