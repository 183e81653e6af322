package consumer

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Option adjusts one handler of a Router.
type Option func(*handler)

// WithRetry sets the handler's retry policy.
func WithRetry(p Policy) Option { return func(h *handler) { h.retry = p } }

// WithTimeout bounds one attempt of the handler; -1 is off.
func WithTimeout(d time.Duration) Option { return func(h *handler) { h.timeout = d } }

// WithClassifier decides between retry and dead letter for this handler. It may
// call Classify for what it does not know.
func WithClassifier(classify func(error) Verdict) Option {
	return func(h *handler) { h.classify = classify }
}

// WithDeadLetterTopic names the handler's dead-letter topic. Default
// deadletter.Topic of the source.
func WithDeadLetterTopic(topic string) Option { return func(h *handler) { h.deadLetters = topic } }

// WithGroup names the consumer group for subscribers that do not put it in the
// record of a message. Default: the handler's name.
func WithGroup(group string) Option { return func(h *handler) { h.group = group } }

// WithParallel bounds how many messages of failed batches a batch handler is given
// at once, each by itself; messages that wait for their next attempt do not count.
// Default 16.
func WithParallel(n int) Option { return func(h *handler) { h.parallel = n } }

// WithAround adds middlewares between dead letter and retry: they see each delivery
// once, however often it is retried. Package quarantine's, which holds back the
// messages that follow a dead letter of their key, belongs here.
func WithAround(m ...message.HandlerMiddleware) Option {
	return func(h *handler) { h.around = append(h.around, m...) }
}

// WithInside adds middlewares between retry and timeout: they see each attempt.
func WithInside(m ...message.HandlerMiddleware) Option {
	return func(h *handler) { h.inside = append(h.inside, m...) }
}

// WithBreaker puts the handler behind b, instead of what Config.Unavailable asks
// for. With nil it has no breaker: failures of an unavailable dependency use up its
// retries, and the messages become dead letters.
func WithBreaker(b *Breaker) Option {
	return func(h *handler) {
		h.ownBreaker = true
		if b == nil {
			return
		}
		h.around = append(h.around, b.around)
		h.inside = append([]message.HandlerMiddleware{b.attempt}, h.inside...)
	}
}
