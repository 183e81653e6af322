package kafka_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// A person who raises a topic's limit and redrives what was too large expects it
// to be taken now, and not once a cache has run out.
func TestVet_SeesARaisedLimitSoon(t *testing.T) {
	t.Parallel()
	topic := harness.Topic(t, 1)
	alterTopic(t, topic, "max.message.bytes", "20000")
	p := newPublisher(t, harness.Brokers(t))
	big := &outbox.Entry{Position: 1, Message: outbox.Message{Topic: topic, Key: "k", Payload: make([]byte, 50_000)}}
	require.ErrorIs(t, p.Vet(t.Context(), big), outbox.ErrUnpublishable)
	alterTopic(t, topic, "max.message.bytes", "100000")
	require.Eventually(t, func() bool { return p.Vet(t.Context(), big) == nil }, liveness, 50*time.Millisecond)
}
