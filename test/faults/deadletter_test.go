package faults

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// The dead-letter topic is gone. Nothing is acknowledged without its dead letter: the
// key waits, other keys flow, the state is visible, a stop leaves the record to
// the next member, and all goes on once the topic is back.
func TestDeadLetter_OfATopicThatIsGoneWaitsAndLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	admin := kadm.NewClient(w.client)
	deleted, err := admin.DeleteTopics(t.Context(), w.dlt)
	require.NoError(t, err)
	require.NoError(t, deleted[w.dlt].Err)
	handle := w.inbox(w.db.DB).Handler(effect)
	join := func() (*consumer.Router, func() error) {
		r := w.router(consumer.Config{DeadLetterWait: 50 * time.Millisecond, MaxDeadLetterWait: 200 * time.Millisecond, DrainTimeout: time.Second})
		r.Handle("gone", w.topic, w.subscriber(kafka.SubscriberConfig{Concurrency: 3}), func(msg *message.Message) error {
			if msg.UUID == "k0-0" {
				return consumer.Fatal(errDown)
			}
			return handle(msg)
		})
		return r, start(t, r)
	}
	w.produce(300, keysOf(3)...)
	for range 2 { // the second member meets the same
		r, stop := join()
		require.Eventually(t, func() bool { return r.Status().DeadLettersBlocked == 1 && w.missing() == 100 }, liveness, time.Millisecond)
		require.Empty(t, w.effects()["k0"])
		require.NoError(t, stop())
		require.LessOrEqual(t, w.committed()[0], int64(0))
	}
	require.NoError(t, harness.CreateTopic(t.Context(), w.conf.Brokers, w.dlt, 1))
	_, stop := join()
	w.awaitCount(consumer.OutcomeDeadLettered, 1)
	harness.Await(t, liveness, "all others are done", func(context.Context) error {
		if n := w.missing(); n != 1 {
			return fmt.Errorf("%d are missing", n)
		}
		return nil
	})
	require.NoError(t, stop())
	require.Len(t, w.deadLetters(), 1)
	require.Equal(t, "k0-0", w.deadLetters()[0].Header(outbox.HeaderEventID))
}

// An event of a schema that comes with a later release becomes a dead letter with
// its bytes, not lost and not retried, and is handled by the release that knows it.
func TestDeadLetter_OfAnUnknownSchemaVersionKeepsItsBytesForTheNextRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.produce(10, "k0", "k1")
	w.mu.Lock()
	future := w.event("k0")
	w.mu.Unlock()
	future.Headers = append(future.Headers, kgo.RecordHeader{Key: outbox.HeaderSchemaVersion, Value: []byte("99")})
	w.send(future)
	w.produce(10, "k0", "k1")
	handle := w.inbox(w.db.DB).Handler(effect)
	release := func(knows string) func() error {
		r := w.router(consumer.Config{})
		r.Handle("release", w.topic, w.subscriber(kafka.SubscriberConfig{}), func(msg *message.Message) error {
			if v := msg.Metadata.Get(outbox.HeaderSchemaVersion); v != "" && v != knows {
				return fmt.Errorf("%w: version %s", consumer.ErrSchema, v)
			}
			return handle(msg)
		})
		return start(t, r)
	}
	stop := release("98")
	w.awaitCount(consumer.OutcomeDeadLettered, 1)
	w.awaitCount(consumer.OutcomeDone, 20)
	require.NoError(t, stop())
	deadLetters := w.deadLetters()
	require.Len(t, deadLetters, 1)
	require.Equal(t, future.Value, deadLetters[0].Value)
	require.Equal(t, "99", deadLetters[0].Header(outbox.HeaderSchemaVersion))
	require.Equal(t, "decode", deadLetters[0].Header(deadletter.HeaderDisposition))
	require.Equal(t, "1", deadLetters[0].Header(deadletter.HeaderAttempts))

	release("99")
	res, err := w.replay(deadletter.Config{})
	require.NoError(t, err)
	require.Equal(t, 1, res.Replayed)
	w.awaitEffects()
}
