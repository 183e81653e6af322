package kafka_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

const topic = "notification.v1"

func TestPublisher_KeepsOrderOverRetriableAnswers(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]*kerr.Error{
		"NotLeaderForPartition":        kerr.NotLeaderForPartition,
		"NotEnoughReplicas":            kerr.NotEnoughReplicas,
		"NotEnoughReplicasAfterAppend": kerr.NotEnoughReplicasAfterAppend,
		"LeaderNotAvailable":           kerr.LeaderNotAvailable,
		"UnknownTopicOrPartition":      kerr.UnknownTopicOrPartition,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, brokers := fake(t, topic, 3)
			pub := newPublisher(t, brokers)
			cluster.Fault(kfake.Fault{ // by chance: by count, the same request could be hit forever
				Keys: []kmsg.Key{kmsg.Produce}, Err: code, Count: -1,
				When: func(kmsg.Request) bool { return rand.IntN(3) == 0 },
			})
			entries := numbered(topic, 5000, 50, 200)
			rounds := pump(t.Context(), t, pub, entries, 100)
			require.Equal(t, 1, rounds, "an answer that asks to retry surfaced")
			require.Zero(t, requireAll(t, brokers, topic, entries), "an idempotent producer duplicates nothing")
		})
	}
}

func TestPublisher_KeepsOrderWhenSessionsBreak(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]*kerr.Error{
		"OutOfOrderSequenceNumber": kerr.OutOfOrderSequenceNumber,
		"UnknownServerError":       kerr.UnknownServerError,
		"InvalidProducerEpoch":     kerr.InvalidProducerEpoch,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, brokers := fake(t, topic, 3)
			pub := newPublisher(t, brokers)
			asked := 0
			cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.Produce}, Err: code, Count: 5, Partitions: []int32{1},
				When: func(kmsg.Request) bool { asked++; return asked%2 == 0 },
			})
			entries := numbered(topic, 5000, 50, 200)
			rounds := pump(t.Context(), t, pub, entries, 100)
			require.Greater(t, rounds, 1, "no session broke: the test shows nothing")
			requireAll(t, brokers, topic, entries)
		})
	}
}

func TestPublisher_OutlastsMetadataErrors(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, topic, 3)
	pub := newPublisher(t, brokers)
	first := numbered(topic, 10, 10, 10)
	pump(t.Context(), t, pub, first, 10)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.LeaderNotAvailable, Count: 12})
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: 3})
	entries := numbered(topic, 1000, 10, 10)
	require.Equal(t, 1, pump(t.Context(), t, pub, entries, 100))
	requireAll(t, brokers, topic, append(first, entries...))
}

func TestPublisher_GivesVerdictsOnMessagesTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code   *kerr.Error
		reason string
	}{
		"MessageTooLarge":          {kerr.MessageTooLarge, "message too large"},
		"InvalidRecord":            {kerr.InvalidRecord, "invalid record"},
		"TopicAuthorizationFailed": {kerr.TopicAuthorizationFailed, "not authorized for topic"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, brokers := fake(t, topic, 1)
			pub := newPublisher(t, brokers)
			require.NoError(t, pub.Connect(t.Context()))
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: c.code, Count: -1})
			entries := numbered(topic, 1, 1, 10)
			v := newVerdicts(1)
			pub.PublishBatch(t.Context(), entries, v.ack(0))
			v.check(t, entries)
			require.ErrorIs(t, v.errs[0], outbox.ErrUnpublishable)
			require.ErrorContains(t, v.errs[0], c.reason)
		})
	}
}

// refuseMarked makes the broker answer MESSAGE_TOO_LARGE to every batch that
// holds a record with the mark in it, as Kafka does for whole batches.
func refuseMarked(cluster *kfake.Cluster, mark string) *kfake.FaultHandle {
	return cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.MessageTooLarge, Count: -1,
		When: func(r kmsg.Request) bool { return holds(r, mark) },
	})
}

func TestPublisher_FindsTheOneTooLargeMessageInABatch(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, topic, 1)
	pub := newPublisher(t, brokers, func(c *kafka.Config) { c.Compression = "none" })
	refuseMarked(cluster, "too much of it")
	entries := numbered(topic, 300, 30, 20)
	bad := 137
	entries[bad].Payload = []byte("too much of it")
	v := newVerdicts(len(entries))
	pub.PublishBatch(t.Context(), entries, v.ack(0))
	v.check(t, entries)
	require.ErrorIs(t, v.errs[bad], outbox.ErrUnpublishable)
	for i, err := range v.errs {
		if i != bad {
			require.NotErrorIsf(t, err, outbox.ErrUnpublishable, "entry %d was condemned with its batch", i)
		}
	}
	var good []outbox.Entry
	var again []outbox.Entry
	for i := range entries {
		if i != bad {
			good = append(good, entries[i])
			if v.errs[i] != nil {
				again = append(again, entries[i])
			}
		}
	}
	pump(t.Context(), t, pub, again, 100)
	requireAll(t, brokers, topic, good)
}

func TestPublisher_ReportsTroubleAndRecovery(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, topic, 1)
	states := make(chan kafka.State, 100)
	pub := newPublisher(t, brokers, func(c *kafka.Config) { c.Hooks.State = func(s kafka.State) { states <- s } })
	require.NoError(t, pub.Connect(t.Context()))
	require.True(t, pub.State().Reachable)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	entries := numbered(topic, 1, 1, 10)
	v := newVerdicts(1)
	pub.PublishBatch(t.Context(), entries, v.ack(0))
	s := <-states
	require.False(t, s.Reachable)
	require.Error(t, s.Err)
	require.Equal(t, 1, pub.State().InFlight)
	fault.Remove()
	require.True(t, (<-states).Reachable)
	v.check(t, entries)
	require.NoError(t, v.errs[0])
	require.Zero(t, pub.State().InFlight)
}

func TestPublisher_EndsPromptlyWithTheContextWhileTheBrokerIsDown(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, topic, 3)
	pub := newPublisher(t, brokers)
	pump(t.Context(), t, pub, numbered(topic, 10, 10, 10), 10)
	cluster.Close()
	ctx, cancel := context.WithCancel(t.Context())
	entries := numbered(topic, 20_000, 100, 200)
	v := newVerdicts(len(entries))
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		for i := 0; i < len(entries); i += 1000 {
			pub.PublishBatch(ctx, entries[i:i+1000], v.ack(i))
		}
	}()
	require.Eventually(t, func() bool { return !pub.State().Reachable }, liveness, time.Millisecond)
	cancel()
	<-returned
	v.check(t, entries)
	for _, err := range v.errs {
		require.ErrorIs(t, err, context.Canceled)
	}
}

func TestPublisher_WritesNothingOfAPartitionBehindARefusedMessage(t *testing.T) {
	t.Parallel()
	for range 20 {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic))
		require.NoError(t, err)
		pub := newPublisher(t, cluster.ListenAddrs(), func(c *kafka.Config) { c.Compression = "none" })
		refuseMarked(cluster, "not this one")
		entries := numbered(topic, 200, 1, 20)
		bad := 100
		entries[bad].Payload = []byte("not this one")
		v := newVerdicts(len(entries))
		sent := 0
		for sent < len(entries) && !v.wrong.Load() {
			pub.PublishBatch(t.Context(), entries[sent:sent+1], v.ack(sent))
			sent++
		}
		v.wg.Add(sent - len(entries)) // the rest was not handed over
		v.check(t, entries[:sent])
		require.ErrorIs(t, v.errs[bad], outbox.ErrUnpublishable)
		for _, r := range harness.ReadTopic(t, cluster.ListenAddrs(), topic) {
			require.LessOrEqual(t, version(r), int64(bad), "it was written although the message before it was refused")
		}
		require.NoError(t, pub.Close())
		cluster.Close()
	}
}
