package record

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Batch is one delivery of many messages of one partition, in offset order. A key
// may occur in it several times.
//
// Each message is acked or nacked on its own. The batch is finished when all its
// messages are answered; only then are the next messages of its keys delivered.
// Nacked messages are delivered again, in order. A handler that nacks a message
// must also nack the later messages of its key, or they overtake it.
type Batch struct {
	Topic     string
	Partition int32
	Messages  []*message.Message

	ctx     context.Context //nolint:containedctx // a Watermill message keeps its own in the same way
	release func()
}

// NewBatch returns a batch. Subscribers make batches with it, and so do handlers
// that pass a part of a batch on. Release calls release; nil does nothing.
func NewBatch(ctx context.Context, topic string, partition int32, messages []*message.Message, release func()) *Batch {
	return &Batch{Topic: topic, Partition: partition, Messages: messages, ctx: ctx, release: release}
}

// Context ends when the batch is finished or its partition is lost.
func (b *Batch) Context() context.Context { return b.ctx }

// Ack acknowledges every message that was not nacked.
func (b *Batch) Ack() {
	for _, m := range b.Messages {
		m.Ack()
	}
}

// Nack refuses every message that was not acked.
func (b *Batch) Nack() {
	for _, m := range b.Messages {
		m.Nack()
	}
}

// Release tells the subscriber not to wait for the whole batch: from now on it
// may deliver other messages, and the next messages of those keys of this batch
// that are already answered. Calling it is optional: a batch whose messages are
// all answered is finished by itself.
func (b *Batch) Release() {
	if b.release != nil {
		b.release()
	}
}
