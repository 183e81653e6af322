package consumer

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/internal/failure"
	"github.com/millrace-go/millrace/adapters/internal/backoff"
)

// The steps of the chain, one by one, for tests.

// Delay returns the wait before the given retry.
func (p Policy) Delay(retry int, random float64) (time.Duration, bool) { return p.delay(retry, random) }

// Validate names every field that is out of range.
func (p Policy) Validate() error { return p.validate() }

// FailureError is what middlewares of WithAround see of a delivery that is given up.
type FailureError = failure.Error

// MaxJitter is the largest jitter.
const MaxJitter = maxJitter

// Retry is the retry step.
func Retry(policy Policy, hooks Hooks) message.HandlerMiddleware {
	return newRetry(retryConfig{policy: policy, classify: Classify, hooks: hooks.withDefaults()})
}

// Timeout is the timeout step.
func Timeout(d time.Duration) message.HandlerMiddleware { return newTimeout(d) }

// Recover is the step that catches panics.
func Recover(hooks Hooks) message.HandlerMiddleware { return newRecover(hooks.withDefaults()) }

// DeadLetter is the dead-letter step.
func DeadLetter(p message.Publisher, tracer Tracer, hooks Hooks) message.HandlerMiddleware {
	return newDeadLetter(deadLetterConfig{
		publisher: p, topic: "notification.v1.dlt", classify: Classify, tracer: tracer,
		waits: backoff.Doubling{First: time.Second, Max: 30 * time.Second}, hooks: hooks.withDefaults(),
	})
}
