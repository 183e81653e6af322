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
	"github.com/millrace-go/millrace/adapters/consumer/internal/failure"
	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// deadLetterConfig configures newDeadLetter.
type deadLetterConfig struct {
	publisher message.Publisher
	topic     string // of the dead letters
	group     string // where the record does not say it
	classify  func(error) Verdict
	tracer    Tracer // may be nil
	waits     backoff.Doubling
	hooks     Hooks
}

// newDeadLetter is a middleware that publishes a message whose handling failed to
// its dead-letter topic and then acknowledges it. If the publish fails, only the
// publish is repeated: the handler does not run again and the message is not
// acknowledged. A failure under an ended context is returned as ErrUnfinished.
func newDeadLetter(cfg deadLetterConfig) message.HandlerMiddleware {
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
	}
}

// deadLetter publishes the dead letter, however long that takes.
func (c *deadLetterConfig) deadLetter(ctx context.Context, msg *message.Message, err error) error {
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
	for failures := 1; ; failures++ {
		refused := c.publishSmaller(ctx, msg, src, f)
		if refused == nil {
			d.Outcome = OutcomeDeadLettered
			return nil
		}
		if unfinished(ctx, refused) {
			return ErrUnfinished
		}
		wait := c.waits.After(failures)
		c.hooks.DeadLetterFailed(RetryInfo{Delivery: d.Delivery, Err: refused, Wait: wait})
		if !blocked {
			blocked = true
			d.blocked.Add(1)
		}
		if !delivery.Sleep(ctx, wait) {
			return ErrUnfinished
		}
	}
}

func (c *deadLetterConfig) failure(ctx context.Context, src *record.Record, err error) deadletter.Failure {
	f := deadletter.Failure{Attempts: 1, Err: err, Group: cmp.Or(src.Group, c.group), At: time.Now()}
	if c.tracer != nil {
		f.Traceparent = c.tracer.Traceparent(ctx)
	}
	if given, ok := errors.AsType[*failure.Error](err); ok {
		f.Attempts, f.Disposition, f.Err = given.Attempts, given.Disposition, given.Err
	} else {
		f.Disposition = dispositionOf(err, c.classify(err))
	}
	if p, ok := errors.AsType[*PanicError](f.Err); ok {
		f.Stack = fmt.Sprintf("%v\n%s", p, p.Stack)
	}
	return f
}

// publishSmaller publishes the whole dead letter; if it is refused for good,
// without the stack; if it is still too large, without its value, and with a
// header that says which record still has it.
func (c *deadLetterConfig) publishSmaller(ctx context.Context, msg *message.Message, src *record.Record, f deadletter.Failure) error {
	headers, bad := f.Headers(src)
	for _, name := range bad {
		c.hooks.BadHeader(src.Topic, name)
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

func (c *deadLetterConfig) publish(ctx context.Context, msg *message.Message, src *record.Record, headers []record.Header, value []byte) error {
	rec := &record.Record{Topic: c.topic, Partition: src.Partition, Key: src.Key, Headers: headers}
	if err := c.publisher.Publish(c.topic, records.Message(ctx, msg.UUID, rec, value)); err != nil {
		return fmt.Errorf("publish dead letter to %s: %w", c.topic, err)
	}
	return nil
}

// sourceRecord is the record that msg came from, or what its metadata say of it.
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
