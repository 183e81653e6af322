package kafka_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// Watermill's own suite against Publisher and Subscriber, on topics of several
// partitions. What it leaves out, and why:
//
//   - ExactlyOnceDelivery is not declared: delivery is at least once.
//   - NewSubscriberReceivesOldMessages speaks of subscribers without a group in
//     common; TestPubSub_NewGroupReceivesOldMessages gives each its own.
//   - TestReconnect needs a command that restarts the broker the tests share;
//     TestSubscriber_CarriesOnWhenTheBrokerComesBack has a broker of its own.
//   - ContextPreserved is not declared: nothing of a context goes over the wire
//     but the headers.
func TestPubSub(t *testing.T) {
	t.Parallel()
	for name, concurrency := range map[string]int{"ordered partitions": 1, "ordered keys": 8} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
				return openPubSub(t, group, kafka.SubscriberConfig{Concurrency: concurrency})
			}
			tests.TestPubSub(t, tests.Features{
				ConsumerGroups: true, GuaranteedOrder: true, Persistent: true,
			}, func(t *testing.T) (message.Publisher, message.Subscriber) {
				name := sha256.Sum256([]byte(t.Name()))
				return open(t, hex.EncodeToString(name[:8]))
			}, open)
		})
	}
}

func TestPubSub_NewGroupReceivesOldMessages(t *testing.T) {
	t.Parallel()
	tests.TestNewSubscriberReceivesOldMessages(t, tests.TestContext{
		TestID: tests.NewTestID(), Features: tests.Features{NewSubscriberReceivesOldMessages: true},
	}, func(t *testing.T) (message.Publisher, message.Subscriber) {
		return openPubSub(t, harness.Group(t), kafka.SubscriberConfig{})
	})
}

func openPubSub(t *testing.T, group string, cfg kafka.SubscriberConfig) (message.Publisher, message.Subscriber) {
	t.Helper()
	conf := kafka.Config{Brokers: harness.Brokers(t)}
	pub, err := kafka.NewPublisher(conf)
	require.NoError(t, err)
	cfg.CreateTopics = &kafka.Topic{Partitions: 4, Replicas: 1, NoDeadLetters: true}
	cfg.DrainTimeout = 2 * time.Second                                          // the suite closes with messages that it never answers
	cfg.NackBackOff, cfg.NackBackOffMax = time.Millisecond, 20*time.Millisecond // and refuses some of them a hundred times
	sub, err := kafka.NewSubscriber(group, conf, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { // the suite leaves some of them open
		require.NoError(t, sub.Close())
		require.NoError(t, pub.Close())
	})
	return keyed{pub}, sub
}

// keyed gives each message its payload as key, which the suite knows nothing of:
// what it expects to be in order has equal payloads.
type keyed struct{ message.Publisher }

func (k keyed) Publish(topic string, messages ...*message.Message) error {
	for _, msg := range messages {
		msg.Metadata.Set(outbox.MetadataKey, "k"+string(msg.Payload))
	}
	return k.Publisher.Publish(topic, messages...)
}
