package kafka

import (
	"context"

	"github.com/millrace-go/millrace/outbox"
)

// SubscribeBatches is Subscribe for handlers that work on many records at once.
// A batch has what is there, at most MaxBatch; it never waits to fill up. The
// batch's context is the parent of its messages' contexts.
func (s *Subscriber) SubscribeBatches(ctx context.Context, topic string) (<-chan *outbox.MessageBatch, error) {
	batches := make(chan *outbox.MessageBatch)
	if err := s.start(ctx, topic, nil, batches); err != nil {
		return nil, err
	}
	return batches, nil
}
