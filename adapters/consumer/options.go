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
// fall back on Classify.
func WithClassifier(classify func(error) Verdict) Option {
	return func(h *handler) { h.classify = classify }
}

// WithDeadLetterTopic names the handler's dead-letter topic. Default
// DeadLetterTopic of the source.
func WithDeadLetterTopic(topic string) Option { return func(h *handler) { h.deadLetters = topic } }

// WithGroup names the consumer group for subscribers that do not tell it in the
// record.Record of a message. Default the handler's name.
func WithGroup(group string) Option { return func(h *handler) { h.group = group } }

// WithParallel bounds how many messages of broken batches a batch handler is
// given at once, each by itself; messages that wait for their next attempt do not
// count. Default 16.
func WithParallel(n int) Option { return func(h *handler) { h.parallel = n } }

// Around adds middlewares between dead letter and retry: they see each delivery
// once, however often it is retried. A gate that holds back the followers of a
// dead key, as package quarantine has one, belongs here.
func Around(m ...message.HandlerMiddleware) Option {
	return func(h *handler) { h.around = append(h.around, m...) }
}

// Inside adds middlewares between retry and timeout: they see each attempt. An
// inbox that makes effects once belongs here.
func Inside(m ...message.HandlerMiddleware) Option {
	return func(h *handler) { h.inside = append(h.inside, m...) }
}
