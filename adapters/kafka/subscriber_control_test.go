package kafka_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

func TestSubscriber_PausedPartitionWaitsWhileOthersFlow(t *testing.T) {
	t.Parallel()
	topic, group := harness.Topic(t, 2), harness.Group(t)
	sub := newSubscriber(t, group, kafka.SubscriberConfig{})
	sub.Pause(topic, 0) // before the partition is claimed
	messages := subscribe(t, sub, topic)
	for i := range 20 {
		rec := &kgo.Record{Topic: topic, Partition: int32(i % 2), Value: fmt.Appendf(nil, "%d", i)}
		produceTo(t, rec)
	}
	for i := range 10 {
		msg := next(t, messages)
		require.Equal(t, place{1, int64(i)}, placeOf(t, msg))
		msg.Ack()
	}
	require.Eventually(t, func() bool {
		st := sub.Status()
		return len(st) == 2 && st[0].Paused && st[0].Next <= 0 && !st[1].Paused && st[1].Next == 10 && st[1].End == 10
	}, liveness, 10*time.Millisecond)

	sub.Resume(topic, 0)
	for i := range 10 {
		msg := next(t, messages)
		require.Equal(t, place{0, int64(i)}, placeOf(t, msg))
		msg.Ack()
	}
}

// produceTo writes rec to the partition it names.
func produceTo(t testing.TB, rec *kgo.Record) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(harness.Brokers(t)...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.ProduceSync(t.Context(), rec).FirstErr())
}

func TestSubscriber_SeekGoesBackAndForth(t *testing.T) {
	t.Parallel()
	topic, group := harness.Topic(t, 1), harness.Group(t)
	produce(t, topic, 100, 1)
	sub := newSubscriber(t, group, kafka.SubscriberConfig{})
	require.ErrorIs(t, sub.Seek(topic, 0, 5), kafka.ErrNotClaimed)
	messages := subscribe(t, sub, topic)
	read := func(from, to int64) {
		for want := from; want < to; want++ {
			msg := next(t, messages)
			require.Equal(t, want, placeOf(t, msg).offset)
			msg.Ack()
			<-msg.Context().Done()
		}
	}
	read(0, 10)
	require.NoError(t, sub.Seek(topic, 0, 3))
	read(3, 12)
	require.NoError(t, sub.Seek(topic, 0, 90))
	read(90, 100)
	require.NoError(t, sub.Close())
	require.Equal(t, map[int32]int64{0: 100}, committed(t, group, topic))
}

func TestSubscriber_ReportsStuckHandlers(t *testing.T) {
	t.Parallel()
	topic, group := harness.Topic(t, 1), harness.Group(t)
	produce(t, topic, 1, 1)
	type report struct {
		rec   *record.Record
		since time.Duration
	}
	reports := make(chan report, 100)
	sub := newSubscriber(t, group, kafka.SubscriberConfig{StuckAfter: 100 * time.Millisecond}, kafka.Hooks{
		Stuck: func(rec *record.Record, since time.Duration) { reports <- report{rec, since} },
	})
	msg := next(t, subscribe(t, sub, topic))
	for i := range 2 { // it is reported again while it lasts
		r := <-reports
		require.Equal(t, int64(0), r.rec.Offset)
		require.GreaterOrEqual(t, r.since, time.Duration(i+1)*100*time.Millisecond)
	}
	st := sub.Status()
	require.Len(t, st, 1)
	require.Equal(t, 1, st[0].Outstanding)
	require.GreaterOrEqual(t, st[0].Oldest, 200*time.Millisecond)
	msg.Ack()
}

func TestSubscriber_SeesNewPartitions(t *testing.T) {
	t.Parallel()
	topic, group := harness.Topic(t, 1), harness.Group(t)
	assigned := make(chan int32, 10)
	sub, err := kafka.NewSubscriber(group, kafka.Config{
		Brokers: harness.Brokers(t), Tune: func(sc *sarama.Config) { sc.Metadata.RefreshFrequency = 200 * time.Millisecond },
		Hooks: kafka.Hooks{Assigned: func(c kafka.Claim) { assigned <- c.Partition }},
	}, kafka.SubscriberConfig{})
	require.NoError(t, err)
	defer func() { require.NoError(t, sub.Close()) }()
	subscribe(t, sub, topic)
	require.Equal(t, int32(0), <-assigned)
	_, err = kadm.NewClient(independent(t)).CreatePartitions(t.Context(), 1, topic)
	require.NoError(t, err)
	require.Equal(t, int32(1), <-assigned, "the partition that stays is not assigned again")
}

func TestSubscriber_WaitsForItsTopic(t *testing.T) {
	t.Parallel()
	topic, group := harness.Group(t), harness.Group(t) // a free name
	var errs atomic.Int64
	sub := newSubscriber(t, group, kafka.SubscriberConfig{}, kafka.Hooks{Error: func(at string, err error) {
		if at == topic && err != nil {
			errs.Add(1)
		}
	}})
	messages := subscribe(t, sub, topic)
	require.Eventually(t, func() bool { return errs.Load() > 0 }, liveness, time.Millisecond)
	require.NoError(t, harness.CreateTopic(t.Context(), harness.Brokers(t), topic, 1))
	produce(t, topic, 1, 1)
	next(t, messages).Ack()
}

func TestSubscriber_BatchesHoldWhatIsThereAndCommitByMessage(t *testing.T) {
	t.Parallel()
	const n, keys = 1000, 7
	topic, group := harness.Topic(t, 2), harness.Group(t)
	produce(t, topic, n, keys)
	sub := newSubscriber(t, group, kafka.SubscriberConfig{MaxBatch: 64, Buffer: 128, NackBackOff: time.Millisecond})
	batches, err := sub.SubscribeBatches(context.Background(), topic)
	require.NoError(t, err)
	done := newJournal()
	largest, refused := 0, false
	for done.count() < n {
		b := <-batches
		largest = max(largest, len(b.Messages))
		require.LessOrEqual(t, len(b.Messages), 64)
		require.NoError(t, b.Context().Err())
		last := int64(-1)
		for i, msg := range b.Messages {
			at := placeOf(t, msg)
			require.Equal(t, b.Partition, at.partition)
			require.Greater(t, at.offset, last)
			last = at.offset
			if !refused && i == 10 {
				refused = true // and with it the rest of the batch
				b.Nack()
				break
			}
			done.record(t, msg)
			msg.Ack()
		}
		<-b.Context().Done()
	}
	require.Equal(t, 64, largest)
	require.True(t, refused)
	require.Zero(t, done.duplicates())
	done.requireComplete(t, n, keys)
	require.NoError(t, sub.Close())
	var sum int64
	for _, at := range committed(t, group, topic) {
		sum += at
	}
	require.Equal(t, int64(n), sum)
}

func TestSubscriber_SettledKeysOfABatchGoOnWhileOthersAreAtWork(t *testing.T) {
	t.Parallel()
	topic, group := harness.Topic(t, 1), harness.Group(t)
	produce(t, topic, 20, 2) // k0 and k1 in turn
	sub := newSubscriber(t, group, kafka.SubscriberConfig{Concurrency: 2, MaxBatch: 4, NackBackOff: time.Millisecond})
	batches, err := sub.SubscribeBatches(context.Background(), topic)
	require.NoError(t, err)
	nextBatch := func() *record.Batch {
		select {
		case b := <-batches:
			return b
		case <-time.After(liveness):
			require.FailNow(t, "no batch came")
			return nil
		}
	}
	done := newJournal()
	stuck := nextBatch()
	for len(stuck.Messages) < 2 { // whatever came first: both keys are needed
		stuck.Nack()
		stuck = nextBatch()
	}
	kept := keyOf(stuck.Messages[0])
	var held []*message.Message
	for _, m := range stuck.Messages {
		if keyOf(m) == kept {
			held = append(held, m)
			continue
		}
		done.record(t, m)
		m.Ack()
	}
	stuck.Release()
	for done.count() < 10 {
		b := nextBatch()
		for _, m := range b.Messages {
			require.NotEqual(t, kept, keyOf(m), "a key that is at work was delivered again")
			done.record(t, m)
		}
		b.Ack()
	}
	require.NoError(t, stuck.Context().Err(), "the rest of the batch is still at work")
	for _, m := range held {
		done.record(t, m)
		m.Ack()
	}
	<-stuck.Context().Done()
	for done.count() < 20 {
		b := nextBatch()
		for _, m := range b.Messages {
			done.record(t, m)
		}
		b.Ack()
	}
	require.Zero(t, done.duplicates())
	done.requireComplete(t, 20, 2)
	require.NoError(t, sub.Close())
	require.Equal(t, map[int32]int64{0: 20}, committed(t, group, topic))
}

func TestSubscriber_CarriesOnWhenTheBrokerComesBack(t *testing.T) {
	t.Parallel()
	server, err := harness.StartKafka(t.Context(), harness.KafkaConfig{Real: true, HeapMB: 256})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.Background())) })
	topic := harness.TopicOn(t, server.Brokers(), 2)
	client, err := kgo.NewClient(kgo.SeedBrokers(server.Brokers()...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	write := func(value string) {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr())
	}
	var errs atomic.Int64
	sub, err := kafka.NewSubscriber("g", kafka.Config{
		Brokers: server.Brokers(), Hooks: kafka.Hooks{Error: func(string, error) { errs.Add(1) }},
	}, kafka.SubscriberConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sub.Close()) })
	messages := subscribe(t, sub, topic)
	write("before")
	msg := next(t, messages)
	require.Equal(t, "before", string(msg.Payload))
	msg.Ack()

	require.NoError(t, server.Kill())
	require.Eventually(t, func() bool { return errs.Load() > 0 }, liveness, time.Millisecond)
	require.NoError(t, server.Start(t.Context()))
	write("after")
	back := time.Now()
	defer func() { t.Logf("delivered %s after the broker was back", time.Since(back)) }()
	for string(msg.Payload) != "after" { // "before" may come again: the kill was no stop
		msg = next(t, messages)
		msg.Ack()
	}
}

func TestNewSubscriber_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := kafka.NewSubscriber("", kafka.Config{}, kafka.SubscriberConfig{
		Concurrency: -1, MaxAhead: -1, Buffer: -1, MaxBatch: -1, NackBackOff: -1, NackBackOffMax: -2, Rebalance: 7,
	})
	for _, field := range []string{
		"Brokers", "group:", "Concurrency", "MaxAhead", "Buffer", "MaxBatch", "NackBackOff", "NackBackOffMax", "Rebalance",
	} {
		require.ErrorContains(t, err, field)
	}
}

func TestSubscriber_RefusesAfterClose(t *testing.T) {
	t.Parallel()
	sub, err := kafka.NewSubscriber("g", kafka.Config{Brokers: []string{"127.0.0.1:1"}}, kafka.SubscriberConfig{})
	require.NoError(t, err)
	messages, err := sub.Subscribe(t.Context(), "t") // no broker is up: it keeps trying
	require.NoError(t, err)
	require.NoError(t, sub.Close())
	require.NoError(t, sub.Close())
	_, open := <-messages
	require.False(t, open)
	_, err = sub.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, kafka.ErrClosed)
	_, err = sub.SubscribeBatches(t.Context(), "t")
	require.ErrorIs(t, err, kafka.ErrClosed)
}
