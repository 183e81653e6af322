package faults

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
)

// A handler panics on one key: its events become dead letters that say where, and
// everything else is handled by the same process.
func TestPanic_OnOneKeyCostsThatKeyAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.produce(300, keysOf(15)...)
	handle := w.inbox(w.db.DB).Handler(effect)
	r := w.router(consumer.Config{Retry: consumer.FixedBackOff(time.Hour, 3)})
	r.Handle("panics", w.topic, w.subscriber(kafka.SubscriberConfig{Concurrency: 4}), func(msg *message.Message) error {
		if rec, _ := record.From(msg.Context()); string(rec.Key) == "k7" {
			panic("index out of range of k7")
		}
		return handle(msg)
	})
	stop := start(t, r)
	w.awaitCount(consumer.OutcomeDeadLettered, 20)
	w.awaitCount(consumer.OutcomeDone, 280)
	require.NoError(t, stop())
	deadLetters := w.deadLetters()
	require.Len(t, deadLetters, 20)
	for _, l := range deadLetters {
		require.Equal(t, "k7", string(l.Key))
		require.Equal(t, "panic", l.Header(deadletter.HeaderDisposition))
		require.Equal(t, "1", l.Header(deadletter.HeaderAttempts), "a panic is not tried again")
		require.Contains(t, l.Header(deadletter.HeaderExceptionMessage), "index out of range of k7")
		require.Contains(t, l.Header(deadletter.HeaderExceptionStacktrace), "panic_test.go")
	}
	delete(w.produced, "k7")
	w.requireOnceInOrder()
}
