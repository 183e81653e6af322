package kafka

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Batch is one delivery of SubscribeBatches: records of one partition in offset
// order, several of a key included.
//
// Each message is acked or nacked on its own; the batch is settled, and the
// next one of its keys delivered, when all are. Nacked messages come again in
// order. Whoever nacks a message is to nack the later ones of its key too, or
// they overtake it.
type Batch struct {
	Topic     string
	Partition int32
	Messages  []*message.Message

	ctx context.Context
}

// Context ends when the batch is settled or its partition is lost. It is the
// parent of the messages' contexts.
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

// SubscribeBatches is Subscribe for handlers that work on many records at once.
// A batch has what is there, at most MaxBatch; it never waits to fill up.
func (s *Subscriber) SubscribeBatches(ctx context.Context, topic string) (<-chan *Batch, error) {
	batches := make(chan *Batch)
	if err := s.start(ctx, topic, nil, batches); err != nil {
		return nil, err
	}
	return batches, nil
}
