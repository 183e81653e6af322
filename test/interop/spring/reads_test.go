package spring_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// failAll runs a group whose handler fails until n dead letters are written.
func failAll(t *testing.T, topic, group string, n int) {
	t.Helper()
	cfg := kafka.Config{Brokers: harness.Brokers(t)}
	pub, err := kafka.NewPublisher(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, pub.Close()) }()
	sub, err := kafka.NewSubscriber(group, cfg, kafka.SubscriberConfig{})
	require.NoError(t, err)
	dead := make(chan struct{}, n)
	r, err := consumer.New(pub, consumer.Config{
		Retry: consumer.FixedBackOff(time.Millisecond, 1),
		Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) {
			if d.Outcome == consumer.OutcomeDeadLettered {
				dead <- struct{}{}
			}
		}},
	})
	require.NoError(t, err)
	r.Handle("go", topic, sub, func(m *message.Message) error {
		return fmt.Errorf("send «%s»: %w", m.UUID, &net.AddrError{Err: "no route", Addr: "10.0.0.1"})
	}, consumer.WithGroup(group))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	for range n {
		select {
		case <-dead:
		case <-time.After(liveness):
			require.FailNow(t, "no dead letter")
		}
	}
	stop()
	require.NoError(t, <-done)
}

func TestSpring_ReadsOurDeadLettersWithItsOwnClasses(t *testing.T) {
	t.Parallel()
	program := lab.BuildJava(t, ".")
	topic, group := harness.Topic(t, 2), harness.Group(t)
	createTopic(t, topic+".dlt", 2)
	createTopic(t, topic+".dlt-dlt", 2)
	const n = 6
	var recs []*kgo.Record
	for i := range n {
		recs = append(recs, &kgo.Record{
			Key: fmt.Appendf(nil, "k%d", i), Value: []byte{0, 0xff, byte(i)}, Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i)),
			Headers: []kgo.RecordHeader{kheader("event-id", fmt.Sprintf("e-%d", i)), kheader("twice", "1"), kheader("twice", "\x00\xff")},
		})
	}
	recs[3].Value = nil
	produce(t, topic, recs...)
	failAll(t, topic, group, n)
	sources := map[string]harness.Record{}
	for _, r := range harness.ReadTopic(t, harness.Brokers(t), topic) {
		sources[string(r.Key)] = r
	}

	java := program.Start(t, "ReadLetters", strings.Join(harness.Brokers(t), ","), topic+".dlt", harness.Group(t))
	for _, got := range await(t, java, n) {
		src := sources[string(got.Key)]
		require.Equal(t, fields{
			Topic: topic, Partition: src.Partition, Offset: src.Offset, Timestamp: src.Timestamp.UnixMilli(), TimestampType: "CreateTime",
			Group: group, Exception: "*fmt.wrapError", Cause: "*net.AddrError",
			Message:    "send «" + src.Header("event-id") + "»: address 10.0.0.1: no route",
			Stacktrace: got.Spring.Stacktrace,
		}, got.Spring)
		require.Contains(t, got.Spring.Stacktrace, "caused by *net.AddrError: address 10.0.0.1: no route")
		require.Equal(t, map[string]int{"partition": 4, "offset": 8, "timestamp": 8}, got.Sizes)
		require.Equal(t, src.Partition, got.Partition)
		require.Equal(t, src.Value, got.Value)
		require.Equal(t, "event-id twice twice", got.Headers[0].Name+" "+got.Headers[1].Name+" "+got.Headers[2].Name)
		require.Equal(t, []byte("\x00\xff"), got.Headers[2].Value)
	}

	// Spring's recoverer takes our origin for its own: it adds none.
	var again []harness.Record
	require.Eventually(t, func() bool {
		again = harness.ReadTopic(t, harness.Brokers(t), topic+".dlt-dlt")
		return len(again) == n
	}, liveness, 200*time.Millisecond)
	for _, r := range again {
		l, bad := letterOf(r)
		require.Empty(t, bad)
		src := sources[string(r.Key)]
		require.Equal(t, topic, l.OriginalTopic)
		require.Equal(t, src.Partition, l.OriginalPartition)
		require.Equal(t, src.Offset, l.OriginalOffset)
		require.Contains(t, l.Error, "failed in Java")
		require.Equal(t, 1, count(r, deadletter.HeaderOriginalOffset))
	}
}

func letterOf(r harness.Record) (l deadletter.Message, bad []string) {
	rec := &record.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key}
	for _, h := range r.Headers {
		rec.Headers = append(rec.Headers, record.Header(h))
	}
	return deadletter.Parse(rec, r.Value)
}

func count(r harness.Record, name string) (n int) {
	for _, h := range r.Headers {
		if h.Key == name {
			n++
		}
	}
	return n
}
