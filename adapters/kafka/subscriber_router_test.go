package kafka_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/test/harness"
)

func TestSubscriber_RouterCloseHarmsNoHealthyMessage(t *testing.T) {
	t.Parallel()
	const n, keys, closes = 600, 20, 5
	topic, group := harness.Topic(t, 3), harness.Group(t)
	produce(t, topic, n, keys)
	done := newJournal()
	var cancelled atomic.Int64

	for round := range closes + 1 {
		router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
		require.NoError(t, err)
		sub := newSubscriber(t, group, kafka.SubscriberConfig{Concurrency: 4})
		router.AddConsumerHandler("work", topic, sub, func(msg *message.Message) error {
			select {
			case <-msg.Context().Done(): // a stop that cancels makes healthy messages dead letters
				cancelled.Add(1)
				return errors.New("context ended")
			case <-time.After(10 * time.Millisecond):
			}
			done.record(t, msg)
			return nil
		})
		ran := make(chan error, 1)
		go func() { ran <- router.Run(context.Background()) }()
		target := n
		if round < closes {
			target = min(n, done.count()+n/(closes+1))
		}
		require.Eventually(t, func() bool { return done.count() >= target }, liveness, time.Millisecond)
		require.NoError(t, router.Close())
		require.NoError(t, <-ran)
		require.Zero(t, done.duplicates(), "after %d closes", round+1)
	}
	require.Zero(t, cancelled.Load())
	done.requireComplete(t, n, keys)
}
