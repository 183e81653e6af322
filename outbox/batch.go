package outbox

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// MessageBatch is one delivery of many messages: those of one partition in offset
// order, several of a key included.
//
// Each message is acked or nacked on its own; the batch is settled, and the next
// messages of its keys are delivered, when all are. Nacked messages come again
// in order. Whoever nacks a message is to nack the later ones of its key too, or
// they overtake it.
type MessageBatch struct {
	Topic     string
	Partition int32
	Messages  []*message.Message

	ctx    context.Context //nolint:containedctx // as a Watermill message keeps its own
	settle func()
}

// NewMessageBatch returns a batch. Subscribers make batches with it, and so does
// who hands a part of one on. settle is what Settle calls; nil does nothing.
func NewMessageBatch(ctx context.Context, topic string, partition int32, messages []*message.Message, settle func()) *MessageBatch {
	return &MessageBatch{Topic: topic, Partition: partition, Messages: messages, ctx: ctx, settle: settle}
}

// Context ends when the batch is settled or its partition is lost.
func (b *MessageBatch) Context() context.Context { return b.ctx }

// Ack acknowledges every message that was not nacked.
func (b *MessageBatch) Ack() {
	for _, m := range b.Messages {
		m.Ack()
	}
}

// Nack refuses every message that was not acked.
func (b *MessageBatch) Nack() {
	for _, m := range b.Messages {
		m.Nack()
	}
}

// Settle tells the subscriber that it need not wait for the whole batch: it may
// deliver other messages now, and the next ones of the keys that are answered
// while the others of the batch are still at work. Calling it is never necessary:
// a batch whose messages are all answered is settled by itself.
func (b *MessageBatch) Settle() {
	if b.settle != nil {
		b.settle()
	}
}
