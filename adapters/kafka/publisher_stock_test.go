package kafka_test

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
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
