package kafka_test

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

func TestPublisher_ServesAStockForwarder(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 3)
	pub := newPublisher(t, brokers)
	queue := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil)
	fwd, err := forwarder.NewForwarder(queue, pub, watermill.NopLogger{}, forwarder.Config{ForwarderTopic: "queue", CloseTimeout: 10 * time.Second})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- fwd.Run(context.Background()) }()
	<-fwd.Running()

	entries := numbered(topic, 50, 5, 10)
	into := forwarder.NewPublisher(queue, forwarder.PublisherConfig{ForwarderTopic: "queue"})
	for i := range entries {
		require.NoError(t, into.Publish(topic, outbox.ToWatermill(t.Context(), &entries[i])))
	}
	require.Eventually(t, func() bool { return len(harness.ReadTopic(t, brokers, topic)) >= len(entries) }, liveness, 50*time.Millisecond)
	require.NoError(t, fwd.Close())
	require.NoError(t, <-done)
	records := harness.ReadTopic(t, brokers, topic)
	harness.AssertComplete(t, records, eventID, ids(entries))
	require.Equal(t, "counted", records[0].Header(outbox.HeaderEventType))
	require.Empty(t, records[0].Header(outbox.MetadataKey))
}

func TestMarshaler_ServesStockPublishersAndSubscribers(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 3)
	sc, err := kafka.Config{Brokers: brokers}.Sarama()
	require.NoError(t, err)
	pub, err := wmkafka.NewPublisher(wmkafka.PublisherConfig{Brokers: brokers, Marshaler: kafka.Marshaler{}, OverwriteSaramaConfig: sc}, nil)
	require.NoError(t, err)
	msg := message.NewMessage("the-uuid", []byte("x"))
	msg.SetContext(record.With(t.Context(), &record.Record{Partition: 2, Key: []byte("21"), Headers: []record.Header{{Key: "event-id", Value: []byte("the-uuid")}}}))
	require.NoError(t, pub.Publish(topic, msg))
	require.NoError(t, pub.Close())

	sub, err := wmkafka.NewSubscriber(wmkafka.SubscriberConfig{
		Brokers: brokers, Unmarshaler: kafka.Marshaler{}, ConsumerGroup: harness.Group(t), OverwriteSaramaConfig: sc,
	}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sub.Close()) })
	got, err := sub.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	received := <-got
	require.Equal(t, "the-uuid", received.UUID)
	require.Equal(t, "x", string(received.Payload))
	received.Ack()
	records := harness.ReadTopic(t, brokers, topic)
	require.Len(t, records, 1)
	require.EqualValues(t, 2, records[0].Partition)
}
