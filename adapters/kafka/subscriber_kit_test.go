package kafka_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

// liveness bounds waits for what must happen in the end; no test is about it.
const liveness = 3 * time.Minute

// place names a record of one topic.
type place struct {
	partition int32
	offset    int64
}

func placeOf(t testing.TB, msg *message.Message) place {
	t.Helper()
	rec, ok := record.From(msg.Context())
	require.True(t, ok, "the context carries no record")
	return place{rec.Partition, rec.Offset}
}

func keyOf(msg *message.Message) string {
	rec, _ := record.From(msg.Context())
	return string(rec.Key)
}

// independent is a client that shares no code with the package under test.
func independent(t testing.TB) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(harness.Brokers(t)...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// produce writes n records whose keys go round: k0, k1, … Their values count
// from 0 per key.
func produce(t testing.TB, topic string, n, keys int) {
	t.Helper()
	recs := make([]*kgo.Record, n)
	for i := range recs {
		recs[i] = &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i%keys), Value: fmt.Appendf(nil, "%d", i/keys)}
	}
	require.NoError(t, independent(t).ProduceSync(t.Context(), recs...).FirstErr())
}

// committed returns the group's offsets of topic, without the partitions that
// have none.
func committed(t testing.TB, group, topic string) map[int32]int64 {
	t.Helper()
	offsets, err := kadm.NewClient(independent(t)).FetchOffsets(context.Background(), group)
	require.NoError(t, err)
	at := map[int32]int64{}
	for p, o := range offsets[topic] {
		at[p] = o.At
	}
	return at
}

func newSubscriber(t testing.TB, group string, cfg kafka.SubscriberConfig, hooks ...kafka.Hooks) *kafka.Subscriber {
	t.Helper()
	conf := kafka.Config{Brokers: harness.Brokers(t)}
	for _, h := range hooks {
		conf.Hooks = conf.Hooks.Tee(h)
	}
	sub, err := kafka.NewSubscriber(group, conf, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sub.Close()) })
	return sub
}

func subscribe(t testing.TB, sub *kafka.Subscriber, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := sub.Subscribe(context.Background(), topic)
	require.NoError(t, err)
	return messages
}

func next(t testing.TB, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, ok := <-messages:
		require.True(t, ok, "channel is closed")
		return msg
	case <-time.After(liveness):
		require.Fail(t, "no message came")
		return nil
	}
}

// handle answers every message in its own goroutine, as Watermill's Router does,
// until the channel is closed; wait returns then.
func handle(messages <-chan *message.Message, with func(*message.Message)) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for msg := range messages {
			wg.Go(func() { with(msg) })
		}
	})
	return wg.Wait
}

// journal notes what handlers finished, in order.
type journal struct {
	mu       sync.Mutex
	times    map[place]int
	perKey   map[string][]string // values per key, in the order they were finished
	finished int
}

func newJournal() *journal {
	return &journal{times: map[place]int{}, perKey: map[string][]string{}}
}

func (j *journal) record(t testing.TB, msg *message.Message) {
	at, key := placeOf(t, msg), keyOf(msg)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.times[at]++
	j.perKey[key] = append(j.perKey[key], string(msg.Payload))
	j.finished++
}

func (j *journal) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.finished
}

// duplicates counts the deliveries beyond the first of each record.
func (j *journal) duplicates() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.finished - len(j.times)
}

// requireComplete fails unless every record of produce was finished, each key's
// in order.
func (j *journal) requireComplete(t testing.TB, n, keys int) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	require.Len(t, j.times, n)
	for key, values := range j.perKey {
		last := -1
		for _, v := range values {
			var i int
			_, err := fmt.Sscan(v, &i)
			require.NoError(t, err)
			require.LessOrEqual(t, i, last+1, "key %s skips from %d to %d", key, last, i)
			last = max(last, i)
		}
		require.GreaterOrEqual(t, last, n/keys-1, "key %s", key)
	}
}
