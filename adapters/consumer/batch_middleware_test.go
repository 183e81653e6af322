package consumer_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/internal/delivery"
	"github.com/millrace-go/millrace/outbox/record"
)

// seen notes the messages that pass a middleware, and with which result.
type seen struct {
	mu   sync.Mutex
	errs map[string][]error
}

func (s *seen) middleware(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		out, err := next(msg)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.errs == nil {
			s.errs = map[string][]error{}
		}
		s.errs[msg.UUID] = append(s.errs[msg.UUID], err)
		return out, err
	}
}

func (s *seen) of(id string) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.errs[id]
}

func TestHandleBatch_MiddlewaresSeeEveryMessageByItself(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 3)
	var around, inside seen
	var got calls
	f, _ := batchRouter(t, &broker{}, done, func(b *record.Batch) error {
		got.note(b)
		return nil
	}, consumer.WithAround(around.middleware), consumer.WithInside(inside.middleware))
	f.give("k1:a", "k2:b", "k1:c")
	done.outcomes(t, 3)
	require.Equal(t, [][]string{{"k1:a", "k2:b", "k1:c"}}, got.all(), "still one call")
	for _, id := range []string{"k1:a", "k2:b", "k1:c"} {
		require.Equal(t, []error{nil}, around.of(id))
		require.Equal(t, []error{nil}, inside.of(id))
	}
}

func TestHandleBatch_MiddlewaresSeeABrokenBatchAsUnfinished(t *testing.T) {
	t.Parallel()
	dead, done := &broker{}, make(deliveries, 3)
	var around, inside seen
	f, _ := batchRouter(t, dead, done, func(b *record.Batch) error {
		if len(b.Messages) > 1 {
			return &consumer.BatchError{Failed: map[int]error{1: errDown}}
		}
		return errDown
	}, consumer.WithAround(around.middleware), consumer.WithInside(inside.middleware))
	f.give("k1:a", "k2:b", "k3:c")
	told := done.outcomes(t, 3)
	require.Equal(t, consumer.OutcomeDeadLettered, told["k2:b"].Outcome)
	require.Equal(t, []error{nil}, around.of("k1:a"))
	errs := around.of("k2:b")
	require.Len(t, errs, 2)
	require.ErrorIs(t, errs[0], consumer.ErrUnfinished)
	var failure *consumer.FailureError
	require.ErrorAs(t, errs[1], &failure)
	require.Len(t, inside.of("k2:b"), 1+3, "with the batch, and each attempt alone")
}

func TestHandleBatch_AMiddlewareMayKeepAMessage(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 3)
	var got calls
	keep := func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			if msg.UUID == "k2:b" {
				delivery.Skip(msg.Context())
				return nil, nil
			}
			return next(msg)
		}
	}
	f, _ := batchRouter(t, &broker{}, done, func(b *record.Batch) error {
		got.note(b)
		return nil
	}, consumer.WithAround(keep))
	batch := f.give("k1:a", "k2:b", "k3:c")
	told := done.outcomes(t, 3)
	require.Equal(t, consumer.OutcomeSkipped, told["k2:b"].Outcome)
	require.Equal(t, [][]string{{"k1:a", "k3:c"}}, got.all())
	require.Len(t, batch.acked(), 3)
}

func TestHandleBatch_AMiddlewareThatFailsOrPanicsBreaksOneMessageOnly(t *testing.T) {
	t.Parallel()
	dead, done := &broker{}, make(deliveries, 3)
	var got calls
	spoil := func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			switch msg.UUID {
			case "k1:a":
				return nil, errDown
			case "k2:b":
				if _, err := next(msg); err != nil {
					return nil, err
				}
				panic("after the handler") // which succeeded
			}
			return next(msg)
		}
	}
	f, _ := batchRouter(t, dead, done, func(b *record.Batch) error {
		got.note(b)
		return nil
	}, consumer.WithInside(spoil))
	batch := f.give("k1:a", "k2:b", "k3:c")
	told := map[string]consumer.Outcome{}
	for range 3 {
		d := done.next(t)
		told[d.MessageID] = d.Outcome
	}
	require.Equal(t, consumer.OutcomeDeadLettered, told["k1:a"])
	require.Equal(t, consumer.OutcomeDone, told["k3:c"])
	require.Equal(t, consumer.OutcomeUnfinished, told["k2:b"], "a panic outside of the handler is nobody's verdict")
	require.Equal(t, []string{"k2:b"}, batch.refused())
	require.Equal(t, 1, got.of("k3:c"))
}

// turnstile lets one message through at a time and the others only when that one
// was handled.
func turnstile() message.HandlerMiddleware {
	turn := make(chan struct{}, 1)
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			turn <- struct{}{}
			defer func() { <-turn }()
			return next(msg)
		}
	}
}

func TestHandleBatch_AMiddlewareThatHoldsMessagesBackDoesNotStallTheBatch(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 6)
	var got calls
	f, stop := batchRouter(t, &broker{}, done, func(b *record.Batch) error {
		got.note(b)
		return nil
	}, consumer.WithAround(turnstile()))
	batch := f.give("k1:a", "k1:b", "k2:c", "k2:d", "k3:e", "k3:f")
	for id, d := range done.outcomes(t, 6) {
		require.Equal(t, consumer.OutcomeDone, d.Outcome, id)
		require.Equal(t, 1, got.of(id), "handled once, with the batch or alone")
	}
	require.Len(t, batch.acked(), 6)
	for _, key := range []string{"k1:a k1:b", "k2:c k2:d", "k3:e k3:f"} {
		requireKeyOrder(t, got.all(), key[:4], key[5:])
	}
	require.NoError(t, stop())
}

func TestRetry_StaysWithinItsTimePerMinuteAndPartition(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 1)
	dead := &broker{}
	r := newRouter(t, dead, consumer.Config{Hooks: done.hooks(), Retry: consumer.FixedBackOff(10*time.Millisecond, 3).PerMinute(50 * time.Millisecond)})
	f := newFeed()
	r.Handle("views", topic, f, func(*message.Message) error { return errDown })
	start(t, r)
	attempts := func(partition int32) int {
		rec := newRecord()
		rec.Partition = partition
		f.give(rec, "x")
		d := done.next(t)
		require.Equal(t, consumer.OutcomeDeadLettered, d.Outcome)
		require.Equal(t, deadletter.DispositionExhausted, d.Disposition)
		return d.Attempts
	}
	require.Equal(t, []int{4, 3, 1}, []int{attempts(1), attempts(1), attempts(1)}, "five waits of ten milliseconds in all")
	require.Equal(t, 4, attempts(2), "another partition has its own")
}
