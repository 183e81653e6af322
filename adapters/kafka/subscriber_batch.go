package kafka

import (
	"context"

	"github.com/millrace-go/millrace/outbox/record"
)

// SubscribeBatches is Subscribe for handlers that work on many records at once.
// A batch has what is there, at most MaxBatch; it never waits to fill up. The
// batch's context is the parent of its messages' contexts.
func (s *Subscriber) SubscribeBatches(ctx context.Context, topic string) (<-chan *record.Batch, error) {
	batches := make(chan *record.Batch)
	if err := s.start(ctx, topic, nil, batches); err != nil {
		return nil, err
	}
	return batches, nil
}
