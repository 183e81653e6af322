package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/internal/delivery"
	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// DeadLetterConfig configures DeadLetter. Only Publisher is required.
type DeadLetterConfig struct {
	// Publisher takes the dead letters. It must return only once the broker has
	// them, and should honour the record.Record in the message's context; without
	// that, partition and repeated headers are lost. It must admit 64 KiB more
	// than the source topic does: of a dead letter that is too large, the value
	// is left out. It is never closed here.
	Publisher message.Publisher
	// Topic names the dead-letter topic of a source topic. Default
	// deadletter.Topic.
	Topic func(source string) string
	// Group names the consumer group where the record does not tell it.
	Group string
	// Classify decides on errors that Retry has not. Default Classify.
	Classify func(error) Verdict
	// Tracer writes traceparent into the dead letter of a message that has none.
	// Default none.
	Tracer Tracer
	// RetryWait is the first wait after a refused publish; waits double up to
	// MaxRetryWait. Defaults 1 s and 30 s.
	RetryWait    time.Duration
	MaxRetryWait time.Duration
	// Hooks tell of what happens. Default none.
	Hooks Hooks
}

// Validate names every field that is missing or out of range.
func (c *DeadLetterConfig) Validate() error {
	var errs []error
	if c.Publisher == nil {
		errs = append(errs, errors.New("dead letters: publisher is missing"))
	}
	if c.RetryWait < 0 || c.MaxRetryWait < 0 {
		errs = append(errs, errors.New("dead letters: waits must not be negative"))
	}
	return errors.Join(errs...)
}

func (c *DeadLetterConfig) setDefaults() {
	if c.Topic == nil {
		c.Topic = deadletter.Topic
	}
	if c.Classify == nil {
		c.Classify = Classify
	}
	if c.RetryWait == 0 {
		c.RetryWait = time.Second
	}
	if c.MaxRetryWait == 0 {
		c.MaxRetryWait = 30 * time.Second
	}
	c.MaxRetryWait = max(c.MaxRetryWait, c.RetryWait)
}

// DeadLetter is a middleware that publishes a message whose handling failed to
// its dead-letter topic and then acknowledges it. While the publish is refused it
// is repeated, alone: the handler does not run again and the message is not
// acknowledged. A failure under an ended context is returned as ErrUnfinished.
func DeadLetter(cfg DeadLetterConfig) (message.HandlerMiddleware, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			ctx := msg.Context()
			out, err := next(msg)
			msg.SetContext(ctx)
			if err == nil {
				return out, nil
			}
			if unfinished(ctx, err) {
				return nil, ErrUnfinished
			}
			return nil, cfg.deadLetter(ctx, msg, err)
		}
	}, nil
}

// deadLetter publishes the dead letter, however long that takes.
func (c *DeadLetterConfig) deadLetter(ctx context.Context, msg *message.Message, err error) error {
	d := deliveryFrom(ctx)
	src := sourceRecord(ctx, msg)
	f := c.failure(ctx, src, err)
	d.Disposition, d.Err = f.Disposition, f.Err
	f.Err = handlerError(f.Err)
	blocked := false
	defer func() {
		if blocked {
			d.blocked.Add(-1)
		}
	}()
	for wait := c.RetryWait; ; wait = min(2*wait, c.MaxRetryWait) {
		refused := c.publishSmaller(ctx, msg, src, f)
		if refused == nil {
			d.Outcome = OutcomeDeadLettered
			return nil
		}
		if unfinished(ctx, refused) {
			return ErrUnfinished
		}
		c.Hooks.deadLetterFailed(d.Delivery, refused, wait)
		if !blocked {
			blocked = true
			d.blocked.Add(1)
		}
		if !delivery.Sleep(ctx, wait) {
			return ErrUnfinished
		}
	}
}

func (c *DeadLetterConfig) failure(ctx context.Context, src *record.Record, err error) deadletter.Failure {
	f := deadletter.Failure{Attempts: 1, Err: err, Group: cmp.Or(src.Group, c.Group), At: time.Now()}
	if c.Tracer != nil {
		f.Traceparent = c.Tracer.Traceparent(ctx)
	}
	if given, ok := errors.AsType[*FailureError](err); ok {
		f.Attempts, f.Disposition, f.Err = given.Attempts, given.Disposition, given.Err
	} else {
		f.Disposition = dispositionOf(err, c.Classify(err))
	}
	if p, ok := errors.AsType[*PanicError](f.Err); ok {
		f.Stack = fmt.Sprintf("%v\n%s", p, p.Stack)
	}
	return f
}

// publishSmaller publishes the whole dead letter; if it is refused for good,
// without the stack; if it is still too large, without its value, and with a
// header that says which record still has it.
func (c *DeadLetterConfig) publishSmaller(ctx context.Context, msg *message.Message, src *record.Record, f deadletter.Failure) error {
	headers, bad := f.Headers(src)
	for _, name := range bad {
		c.Hooks.badHeader(src.Topic, name)
	}
	refused := c.publish(ctx, msg, src, headers, msg.Payload)
	if errors.Is(refused, outbox.ErrUnpublishable) {
		f.NoStack = true
		headers, _ = f.Headers(src)
		refused = c.publish(ctx, msg, src, headers, msg.Payload)
	}
	if why, ok := errors.AsType[*outbox.UnpublishableError](refused); ok && why.Reason == records.ReasonTooLarge {
		f.ValueOmitted, f.ValueSize = true, len(msg.Payload)
		headers, _ = f.Headers(src)
		refused = c.publish(ctx, msg, src, headers, nil)
	}
	return refused
}

func (c *DeadLetterConfig) publish(ctx context.Context, msg *message.Message, src *record.Record, headers []record.Header, value []byte) error {
	topic := c.Topic(src.Topic)
	rec := &record.Record{Topic: topic, Partition: src.Partition, Key: src.Key, Headers: headers}
	if err := c.Publisher.Publish(topic, records.Message(ctx, msg.UUID, rec, value)); err != nil {
		return fmt.Errorf("publish dead letter to %s: %w", topic, err)
	}
	return nil
}

// sourceRecord is the record that msg came from, or what metadata tell of it.
func sourceRecord(ctx context.Context, msg *message.Message) *record.Record {
	if r, ok := record.From(ctx); ok {
		return r
	}
	r := &record.Record{Topic: cmp.Or(message.SubscribeTopicFromCtx(ctx), deliveryFrom(ctx).Topic), Partition: record.PartitionByKey, Offset: -1}
	for name, value := range msg.Metadata {
		if name == outbox.MetadataKey {
			r.Key = []byte(value)
			continue
		}
		r.Headers = append(r.Headers, records.Text(name, value))
	}
	slices.SortFunc(r.Headers, func(a, b record.Header) int { return strings.Compare(a.Key, b.Key) })
	return r
}
