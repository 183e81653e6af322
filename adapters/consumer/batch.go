package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/record"
)

// BatchSubscriber delivers batches; package kafka's Subscriber is one.
type BatchSubscriber interface {
	// SubscribeBatches delivers until ctx ends, then drains and closes the
	// channel, as a message.Subscriber must for Handle.
	SubscribeBatches(ctx context.Context, topic string) (<-chan *record.Batch, error)
	Close() error
}

// BatchFunc handles a batch. It leaves acking to the router. Its context, and
// those of its messages, end with the handler's timeout.
//
// Nil means that every message is done, and a BatchError that all but some are.
// With any other error, or a panic, none is done; unless the batch's context has
// ended, the router then gives the function each message by itself, as a batch of
// one.
type BatchFunc func(b *record.Batch) error

// BatchError is what a BatchFunc returns if it is done with all but some messages
// of its batch.
type BatchError struct {
	// Failed has the failures of messages, by their index in the batch. A nil error
	// means that the message was not tried. The messages of a key that follow a
	// failed one must not be done before it: they belong here too.
	Failed map[int]error
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("%d messages of the batch not done: %v", len(e.Failed), errors.Join(e.Unwrap()...))
}

// Unwrap returns the failures.
func (e *BatchError) Unwrap() []error {
	var errs []error
	for _, err := range e.Failed {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// HandleBatch is Handle for a function that works on many messages at once.
//
// A batch that fails is split: each of its messages then goes by itself through the
// whole chain that the package describes, one after the other within a key and
// several keys at a time (see WithParallel). So a poison message delays only
// itself and its key. With a BatchError, its failures count as the first attempts,
// and the other messages are done.
//
// Middlewares given by WithAround and WithInside see each message of a batch by
// itself. If one holds messages back, the others are not held up: what is not
// through soon after the last message is handled by itself later. If the batch
// fails, middlewares see ErrUnfinished first, and then each message again.
func (r *Router) HandleBatch(name, topic string, sub BatchSubscriber, fn BatchFunc, opts ...Option) {
	h := newHandler(name, topic, &r.cfg, opts)
	h.isBatch, h.batches, h.batch = true, sub, fn
	h.fn = h.batchOfOne
	r.add(h)
}

// batchOfOne is the handler's function for a message of a split batch.
func (h *handler) batchOfOne(msg *message.Message) error {
	d := describe(h.name, h.topic, msg)
	err := h.batch(record.NewBatch(msg.Context(), d.Topic, d.Partition, []*message.Message{msg}, nil))
	if failed, ok := errors.AsType[*BatchError](err); ok {
		if why := failed.Failed[0]; why != nil {
			return why
		}
	}
	return err
}
