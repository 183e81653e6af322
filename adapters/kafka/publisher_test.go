package kafka_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

func TestPublisher_DeliversPipelinedBatchesCompleteAndInOrder(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 6)
	pub := newPublisher(t, brokers)
	entries := numbered(topic, 20_000, 500, 200)
	require.Equal(t, 1, pump(t.Context(), t, pub, entries, 500))
	require.Zero(t, requireAll(t, brokers, topic, entries))
}

func TestPublisher_AcknowledgesAfterPublishBatchHasReturned(t *testing.T) {
	t.Parallel()
	pub := newPublisher(t, harness.Brokers(t))
	entries := numbered(harness.Topic(t, 1), 100, 10, 10)
	v := newVerdicts(len(entries))
	for i := 0; i < len(entries); i += 10 {
		pub.PublishBatch(t.Context(), entries[i:i+10], v.ack(i))
	}
	v.check(t, entries)
	require.NoError(t, errors.Join(v.errs...))
}

func TestPublisher_VetKnowsTopicsAndTheirLimits(t *testing.T) {
	t.Parallel()
	brokers := harness.Brokers(t)
	pub := newPublisher(t, brokers)
	topic := harness.Topic(t, 1)
	alterTopic(t, topic, "max.message.bytes", "20000")
	e := numbered(topic, 1, 1, 100)[0]
	require.NoError(t, pub.Vet(t.Context(), &e))

	e.Payload = make([]byte, 20_001)
	err := pub.Vet(t.Context(), &e)
	require.ErrorIs(t, err, outbox.ErrUnpublishable)
	require.ErrorContains(t, err, "message too large")

	e = numbered(topic+".missing", 1, 1, 100)[0]
	err = pub.Vet(t.Context(), &e)
	require.ErrorIs(t, err, outbox.ErrUnpublishable)
	require.ErrorContains(t, err, "unknown topic")

	require.NoError(t, harness.CreateTopic(t.Context(), brokers, topic+".missing", 1))
	require.Eventually(t, func() bool { return pub.Vet(t.Context(), &e) == nil }, liveness, 20*time.Millisecond,
		"a topic that was created later is not noticed")
	pump(t.Context(), t, pub, []outbox.Entry{e}, 1)
}

// A broker that has just started may say of any topic that it does not exist.
func TestPublisher_VetDoesNotBelieveAtOnceThatATopicIsMissing(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, topic, 1)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: topic, Err: kerr.UnknownTopicOrPartition, Count: 2})
	e := numbered(topic, 1, 1, 10)[0]
	require.NoError(t, newPublisher(t, brokers).Vet(t.Context(), &e))
	require.Equal(t, 2, fault.Hits())
}

func TestPublisher_VetRefusesNothingWhileNoBrokerAnswers(t *testing.T) {
	t.Parallel()
	port, err := lab.FreePort()
	require.NoError(t, err)
	pub := newPublisher(t, []string{loopback(port)})
	e := numbered("notification.v1", 1, 1, 10)[0]
	require.NoError(t, pub.Vet(t.Context(), &e))
}

// A batch may not be larger than its topic allows, though a larger one would
// suit the other topics of the producer.
func TestPublisher_KeepsBatchesBelowTheLimitOfEachTopic(t *testing.T) {
	t.Parallel()
	brokers := harness.Brokers(t)
	small, large := harness.Topic(t, 1), harness.Topic(t, 1)
	alterTopic(t, small, "max.message.bytes", "20000")
	pub := newPublisher(t, brokers, func(c *kafka.Config) { c.Compression = "none" })
	var entries []outbox.Entry
	a, b := numbered(small, 500, 5, 1000), numbered(large, 500, 5, 1000)
	for i := range a {
		entries = append(entries, a[i], b[i])
	}
	require.Equal(t, 1, pump(t.Context(), t, pub, entries, 100), "a batch was refused")
	requireAll(t, brokers, small, a)
	requireAll(t, brokers, large, b)
}

func TestPublisher_LearnsALoweredLimitFromTheRefusal(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 1)
	pub := newPublisher(t, brokers, func(c *kafka.Config) { c.Compression = "none" })
	entries := numbered(topic, 200, 5, 1000)
	pump(t.Context(), t, pub, entries[:10], 10)
	alterTopic(t, topic, "max.message.bytes", "5000") // the publisher believes 1 MB for a minute
	pump(t.Context(), t, pub, entries[10:], 190)
	requireAll(t, brokers, topic, entries)
}

func TestPublisher_RefusesTooLargeMessagesAndHoldsBackTheirKey(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 1)
	pub := newPublisher(t, brokers)
	entries := numbered(topic, 6, 2, 10) // keys 0 1 0 1 0 1
	entries[2].Payload = []byte(strings.Repeat("x", 1_000_000))
	v := newVerdicts(len(entries))
	pub.PublishBatch(t.Context(), entries, v.ack(0))
	v.check(t, entries)
	require.ErrorIs(t, v.errs[2], outbox.ErrUnpublishable)
	require.ErrorIs(t, v.errs[4], kafka.ErrGaveUp)
	for _, i := range []int{0, 1, 3, 5} {
		require.NoError(t, v.errs[i])
	}
}

func TestPublisher_ParksMessagesOfATopicThatWasDeleted(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 1)
	pub := newPublisher(t, brokers)
	pump(t.Context(), t, pub, numbered(topic, 10, 1, 10), 10)
	_, err := kadm.NewClient(independent(t)).DeleteTopics(t.Context(), topic)
	require.NoError(t, err)
	entries := numbered(topic, 10, 1, 10)
	v := newVerdicts(len(entries))
	pub.PublishBatch(t.Context(), entries, v.ack(0))
	v.check(t, entries)
	require.ErrorIs(t, v.errs[0], outbox.ErrUnpublishable)
	require.ErrorContains(t, v.errs[0], "unknown topic")
}

func TestPublisher_PublishesWatermillMessagesInOneGo(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 3)
	pub := newPublisher(t, brokers)
	var messages []*message.Message
	for _, e := range numbered(topic, 1000, 10, 50) {
		messages = append(messages, outbox.ToWatermill(t.Context(), &e))
	}
	require.NoError(t, pub.Publish(topic, messages...))
	records := harness.ReadTopic(t, brokers, topic)
	require.Len(t, records, 1000)
	harness.AssertOrder(t, records, version)
}

func TestPublisher_PublishEndsWithTheContextOfAMessage(t *testing.T) {
	t.Parallel()
	port, err := lab.FreePort()
	require.NoError(t, err)
	pub := newPublisher(t, []string{loopback(port)})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	e := numbered("notification.v1", 1, 1, 10)[0]
	require.ErrorIs(t, pub.Publish("notification.v1", outbox.ToWatermill(ctx, &e)), context.DeadlineExceeded)
}

func TestPublisher_PublishOutlivesTheEndOfAnotherCaller(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, topic, 1)
	pub := newPublisher(t, brokers)
	release := stall(cluster)
	ctx, cancel := context.WithCancel(t.Context())
	entries := numbered(topic, 2, 2, 10)
	errs := [2]chan error{make(chan error, 1), make(chan error, 1)}
	go func() { errs[0] <- pub.Publish(topic, outbox.ToWatermill(ctx, &entries[0])) }()
	go func() { errs[1] <- pub.Publish(topic, outbox.ToWatermill(t.Context(), &entries[1])) }()
	require.Eventually(t, func() bool { return pub.State().InFlight == 2 }, liveness, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-errs[0], context.Canceled)
	release()
	require.NoError(t, <-errs[1])
}

func TestPublisher_CloseWaitsForAcknowledgements(t *testing.T) {
	t.Parallel()
	brokers, topic := harness.Brokers(t), harness.Topic(t, 3)
	pub := newPublisher(t, brokers)
	entries := numbered(topic, 5000, 100, 100)
	v := newVerdicts(len(entries))
	pub.PublishBatch(t.Context(), entries, v.ack(0))
	require.NoError(t, pub.Close())
	v.check(t, entries)
	require.NoError(t, errors.Join(v.errs...))

	late := newVerdicts(1)
	pub.PublishBatch(t.Context(), entries[:1], late.ack(0))
	late.check(t, entries[:1])
	require.ErrorIs(t, late.errs[0], kafka.ErrClosed)
	require.NoError(t, pub.Close(), "a second Close")
}

func TestPublisher_CloseGivesUpAfterItsTimeout(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, topic, 1)
	pub := newPublisher(t, brokers, func(c *kafka.Config) { c.CloseTimeout = 50 * time.Millisecond })
	defer stall(cluster)()
	entries := numbered(topic, 100, 10, 10)
	v := newVerdicts(len(entries))
	pub.PublishBatch(t.Context(), entries, v.ack(0))
	require.NoError(t, pub.Close(), "though the broker goes on answering nothing")
	v.check(t, entries)
	require.ErrorIs(t, v.errs[0], kafka.ErrClosed)
}
