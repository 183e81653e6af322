package consumer_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

// liveness bounds waits for what must happen in the end.
const liveness = 3 * time.Minute

// pipe is a topic with its dead letters on the run's Kafka.
type pipe struct {
	t      *testing.T
	topic  string
	dlt    string
	config kafka.Config
	pub    *kafka.Publisher
}

func newPipe(t *testing.T, partitions int) *pipe {
	p := &pipe{t: t, topic: harness.Topic(t, partitions), config: kafka.Config{Brokers: harness.Brokers(t)}}
	p.dlt = deadletter.Topic(p.topic)
	var err error
	p.pub, err = kafka.NewPublisher(p.config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.pub.Close()) })
	return p
}

func (p *pipe) createDeadLetters(partitions int) {
	require.NoError(p.t, harness.CreateTopic(p.t.Context(), p.config.Brokers, p.dlt, partitions))
}

func (p *pipe) subscriber(group string) *kafka.Subscriber {
	sub, err := kafka.NewSubscriber(group, p.config, kafka.SubscriberConfig{Concurrency: 8})
	require.NoError(p.t, err)
	return sub
}

func (p *pipe) produce(recs ...*kgo.Record) {
	c, err := kgo.NewClient(kgo.SeedBrokers(p.config.Brokers...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	require.NoError(p.t, err)
	defer c.Close()
	for _, r := range recs {
		r.Topic = p.topic
	}
	require.NoError(p.t, c.ProduceSync(p.t.Context(), recs...).FirstErr())
}

// admin is what the router asks for its topics.
func (p *pipe) admin() *kafka.Admin {
	admin, err := kafka.NewAdmin(p.config)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { require.NoError(p.t, admin.Close()) })
	return admin
}

// handled collects the values of each key in the order of their handling.
type handled struct {
	mu    sync.Mutex
	byKey map[string][]string
	n     int
}

func (h *handled) note(m *message.Message) {
	rec, _ := record.From(m.Context())
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byKey == nil {
		h.byKey = map[string][]string{}
	}
	h.byKey[string(rec.Key)] = append(h.byKey[string(rec.Key)], string(m.Payload))
	h.n++
}

func (h *handled) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

func poisonOf(i int) bool { return i%25 == 7 }

func TestRouter_PoisonKeepsItsBytesAndTheOthersTheirOrder(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 3)
	p.createDeadLetters(3)
	const n, keys = 500, 20
	var recs []*kgo.Record
	for i := range n {
		r := &kgo.Record{Key: fmt.Appendf(nil, "k%d", i%keys), Value: fmt.Appendf(nil, "%d", i), Headers: []kgo.RecordHeader{
			{Key: "event-id", Value: fmt.Appendf(nil, "e-%d", i)},
			{Key: "twice", Value: []byte("1")}, {Key: "binary", Value: []byte{0, 0xff, 0xfe}}, {Key: "twice", Value: []byte("2")},
			{Key: "null", Value: nil},
		}}
		if poisonOf(i) {
			r.Value = append([]byte{0xff, 0x00}, r.Value...)
		}
		recs = append(recs, r)
	}
	recs[7].Value = nil // an unexpected tombstone
	p.produce(recs...)

	var seen handled
	done := make(deliveries, n)
	group := harness.Group(t)
	r := newRouter(t, p.pub, consumer.Config{Partitions: p.admin().Partitions, Tracer: telemetry.Tracer{}, Hooks: done.hooks()})
	decode := func(m *message.Message) (*message.Message, error) {
		if len(m.Payload) == 0 || m.Payload[0] == 0xff {
			return nil, errDown
		}
		return m, nil
	}
	r.Handle("views", p.topic, p.subscriber(group), consumer.Typed(decode, func(_ context.Context, m *message.Message) error {
		seen.note(m)
		return nil
	}))
	stop := start(t, r)
	for range n {
		done.next(t)
	}
	require.NoError(t, stop())

	poison := 0
	want := map[string][]string{}
	for i, rec := range recs {
		if poisonOf(i) {
			poison++
			continue
		}
		want[string(rec.Key)] = append(want[string(rec.Key)], string(rec.Value))
	}
	require.Equal(t, want, seen.byKey)

	deadLetters := harness.ReadTopic(t, p.config.Brokers, p.dlt)
	require.Len(t, deadLetters, poison)
	origin := map[string]harness.Record{}
	for _, rec := range harness.ReadTopic(t, p.config.Brokers, p.topic) {
		origin[rec.Header("event-id")] = rec
	}
	for _, got := range deadLetters {
		src := origin[got.Header("event-id")]
		require.Equal(t, src.Partition, got.Partition)
		require.Equal(t, src.Key, got.Key)
		require.Equal(t, src.Value, got.Value)
		require.Equal(t, src.Headers, got.Headers[:len(src.Headers)])
		require.Equal(t, "decode", got.Header("dlt-disposition"))
		require.Equal(t, group, got.Header("kafka_dlt-original-consumer-group"))
		require.Equal(t, fmt.Sprintf("%016x", src.Offset), fmt.Sprintf("%x", got.Header("kafka_dlt-original-offset")))
		require.Equal(t, fmt.Sprintf("%016x", src.Timestamp.UnixMilli()), fmt.Sprintf("%x", got.Header("kafka_dlt-original-timestamp")))
		_, ok := telemetry.ParseTraceparent(got.Header("traceparent"))
		require.True(t, ok)
	}
}

func TestRouter_GracefulStopLosesDuplicatesAndDeadLettersNothing(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 2)
	p.createDeadLetters(2)
	const n = 300
	var recs []*kgo.Record
	for i := range n {
		recs = append(recs, &kgo.Record{Key: fmt.Appendf(nil, "k%d", i%10), Value: fmt.Appendf(nil, "%d", i)})
	}
	p.produce(recs...)
	var seen handled
	group := harness.Group(t)
	for seen.count() < n {
		r := newRouter(t, p.pub, consumer.Config{DrainTimeout: time.Hour}) // a stop that is held up does not end
		before := seen.count()
		r.Handle("views", p.topic, p.subscriber(group), func(m *message.Message) error {
			select {
			case <-time.After(5 * time.Millisecond): // slow, and healthy
			case <-m.Context().Done():
				return m.Context().Err()
			}
			seen.note(m)
			return nil
		})
		stop := start(t, r)
		require.Eventually(t, func() bool { return seen.count() >= min(before+60, n) }, liveness, time.Millisecond)
		require.NoError(t, stop())
	}
	want := map[string][]string{}
	for _, rec := range recs {
		want[string(rec.Key)] = append(want[string(rec.Key)], string(rec.Value))
	}
	require.Equal(t, want, seen.byKey)
	require.Empty(t, harness.ReadTopic(t, p.config.Brokers, p.dlt))
}

func TestRouter_WaitsForADeadLetterTopicThatComesLate(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 1)
	p.produce(&kgo.Record{Key: []byte("k"), Value: []byte("bad")}, &kgo.Record{Key: []byte("k"), Value: []byte("good")})
	var seen, calls handled
	done := make(deliveries, 2)
	r := newRouter(t, p.pub, consumer.Config{Hooks: done.hooks(), DeadLetterWait: 100 * time.Millisecond})
	r.Handle("views", p.topic, p.subscriber(harness.Group(t)), func(m *message.Message) error {
		calls.note(m)
		if string(m.Payload) == "bad" {
			return consumer.Fatal(errDown)
		}
		seen.note(m)
		return nil
	})
	start(t, r)
	require.Eventually(t, func() bool { return r.Status().DeadLettersBlocked == 1 }, liveness, time.Millisecond)
	require.Zero(t, seen.count(), "the next of the key waits")
	p.createDeadLetters(1)
	require.Equal(t, consumer.OutcomeDeadLettered, done.next(t).Outcome)
	require.Equal(t, consumer.OutcomeDone, done.next(t).Outcome)
	require.Equal(t, []string{"bad", "good"}, calls.byKey["k"], "the handler did not run again")
	require.Len(t, harness.ReadTopic(t, p.config.Brokers, p.dlt), 1)
}

func TestReplay_HealsTheFailedGroupAndSparesTheOther(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 3)
	p.createDeadLetters(3)
	const n = 60
	var recs []*kgo.Record
	for i := range n {
		recs = append(recs, &kgo.Record{Key: fmt.Appendf(nil, "k%d", i%6), Value: fmt.Appendf(nil, "%03d", i)})
	}
	p.produce(recs...)

	var broken sync.Map
	broken.Store("down", true)
	var failing, healthy handled
	failed, fine := make(deliveries, 2*n), make(deliveries, 2*n)
	failingGroup, healthyGroup := harness.Group(t), harness.Group(t)
	run := func(group string, done deliveries, fn message.NoPublishHandlerFunc) {
		r := newRouter(t, p.pub, consumer.Config{Hooks: done.hooks(), Retry: consumer.FixedBackOff(time.Millisecond, 1)})
		r.Handle("h", p.topic, p.subscriber(group), fn)
		start(t, r)
	}
	run(failingGroup, failed, func(m *message.Message) error {
		if _, down := broken.Load("down"); down {
			return errDown
		}
		failing.note(m)
		return nil
	})
	run(healthyGroup, fine, func(m *message.Message) error { healthy.note(m); return nil })
	for range n {
		require.Equal(t, consumer.OutcomeDeadLettered, failed.next(t).Outcome)
		require.Equal(t, consumer.OutcomeDone, fine.next(t).Outcome)
	}

	broken.Delete("down")
	reader, err := kafka.NewDeadLetters(p.config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close() })
	cfg := deadletter.Config{
		Rate: -1, ProgressGroup: harness.Group(t), Filter: deadletter.Filter{Key: []byte("k1")},
	}
	first, err := deadletter.Replay(t.Context(), p.dlt, reader, p.pub, cfg)
	require.NoError(t, err)
	require.Equal(t, n/6, first.Replayed)
	cfg.Filter = deadletter.Filter{}
	second, err := deadletter.Replay(t.Context(), p.dlt, reader, p.pub, cfg)
	require.NoError(t, err)
	require.Equal(t, n-n/6, second.Replayed)
	third, err := deadletter.Replay(t.Context(), p.dlt, reader, p.pub, cfg)
	require.NoError(t, err)
	require.Zero(t, third.Open)
	for range n {
		require.Equal(t, consumer.OutcomeDone, failed.next(t).Outcome)
		require.Equal(t, consumer.OutcomeSkipped, fine.next(t).Outcome)
	}
	require.Equal(t, healthy.byKey, failing.byKey, "each key in its order, each event once")

	all := harness.ReadTopic(t, p.config.Brokers, p.topic)
	require.Len(t, all, 2*n)
	where := map[string]int32{}
	for _, rec := range all {
		if rec.Header("dlt-replay-id") == "" {
			where[string(rec.Value)] = rec.Partition
			continue
		}
		require.Equal(t, where[string(rec.Value)], rec.Partition)
		require.Equal(t, failingGroup, rec.Header("dlt-target-group"))
		require.False(t, slices.ContainsFunc(rec.Headers, func(h harness.Header) bool { return strings.Contains(h.Key, "exception") }))
	}
}
