package consumer

import (
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/internal/delivery"
	"github.com/millrace-go/millrace/adapters/consumer/internal/failure"
)

// retryConfig configures a retrier.
type retryConfig struct {
	policy   Policy
	classify func(error) Verdict
	hooks    Hooks
}

// newRetry is a middleware that repeats a failed delivery by its policy and returns
// a failure.Error when it gives up. It keeps the cap of Policy.PerMinute for all
// messages that pass it. A wait ends with the message's context; a failure under an
// ended context is ErrUnfinished.
func newRetry(cfg retryConfig) message.HandlerMiddleware {
	spent := newAllowance(cfg.policy.perMinute)
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			return cfg.handle(spent, msg, next)
		}
	}
}

func (cfg *retryConfig) handle(spent *allowance, msg *message.Message, next message.HandlerFunc) ([]*message.Message, error) {
	ctx := msg.Context()
	d := deliveryFrom(ctx)
	for attempt := 1; ; attempt++ {
		d.Attempts = attempt
		out, err := handleOrFirst(d, msg, next)
		msg.SetContext(ctx)
		if err == nil {
			return out, nil
		}
		if unfinished(ctx, err) {
			return nil, ErrUnfinished
		}
		verdict := cfg.classify(err)
		wait, more := cfg.policy.delay(attempt, rand.Float64())
		if verdict == VerdictFatal || !more || !spent.take(d, wait, time.Now()) {
			return nil, &failure.Error{Attempts: attempt, Disposition: dispositionOf(err, verdict), Err: err}
		}
		cfg.hooks.Retrying(RetryInfo{Delivery: d.Delivery, Err: err, Wait: wait})
		if !delivery.Sleep(ctx, wait) {
			return nil, ErrUnfinished
		}
	}
}

// handleOrFirst calls the handler, unless the first attempt was made with a batch:
// see BatchError.
func handleOrFirst(d *state, msg *message.Message, next message.HandlerFunc) ([]*message.Message, error) {
	if err := d.first; err != nil {
		d.first = nil
		return nil, err
	}
	return next(msg)
}
