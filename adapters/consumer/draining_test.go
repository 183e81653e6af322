package consumer_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
)

// stock runs a handler on Watermill's own subscriber and stops the router while
// it works; it returns the handler's error and what the router made of it.
func stock(t *testing.T, wrap func(message.Subscriber) message.Subscriber) (d consumer.Delivery, b *broker, handlerErr error) {
	t.Helper()
	pubsub := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	// It may come again: the subscriber repeats what is not acknowledged.
	done, working, result := make(deliveries, 100), make(chan struct{}, 100), make(chan error, 100)
	b = &broker{}
	r := newRouter(t, b, consumer.Config{Hooks: done.hooks()})
	r.Handle("views", topic, wrap(pubsub), func(m *message.Message) error {
		working <- struct{}{}
		select {
		case <-m.Context().Done():
		case <-time.After(100 * time.Millisecond):
		}
		result <- m.Context().Err()
		return m.Context().Err()
	})
	stop := start(t, r)
	require.NoError(t, pubsub.Publish(topic, message.NewMessage("1", nil)))
	<-working
	require.NoError(t, stop())
	return done.next(t), b, <-result
}

func TestDraining_KeepsContextsOfStockSubscribersAlive(t *testing.T) {
	t.Parallel()
	d, b, err := stock(t, func(s message.Subscriber) message.Subscriber { return consumer.Draining(s, 5*time.Second) })
	require.NoError(t, err)
	require.Equal(t, consumer.OutcomeDone, d.Outcome)
	require.Empty(t, b.Times())
}

func TestDraining_GivesUpAtItsTimeout(t *testing.T) {
	t.Parallel()
	d, b, err := stock(t, func(s message.Subscriber) message.Subscriber { return consumer.Draining(s, time.Millisecond) })
	require.Error(t, err)
	require.Equal(t, consumer.OutcomeUnfinished, d.Outcome)
	require.Empty(t, b.Times())
}

func TestRouter_NeverDeadLettersWhatAStockSubscriberCutsOff(t *testing.T) {
	t.Parallel()
	d, b, err := stock(t, func(s message.Subscriber) message.Subscriber { return s })
	require.Error(t, err)
	require.Equal(t, consumer.OutcomeUnfinished, d.Outcome)
	require.Empty(t, b.Times())
}
