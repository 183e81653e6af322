package kafka_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

func TestSubscriber_GracefulStopsDuplicateNothing(t *testing.T) {
	t.Parallel()
	const n, keys, closes = 4000, 50, 20
	topic, group := harness.Topic(t, 4), harness.Group(t)
	produce(t, topic, n, keys)
	done := newJournal()

	for round := range closes + 1 {
		sub := newSubscriber(t, group, kafka.SubscriberConfig{Concurrency: 8})
		wait := handle(subscribe(t, sub, topic), func(msg *message.Message) {
			<-time.After(rand.N(3 * time.Millisecond)) // the handler's work
			done.record(t, msg)
			msg.Ack()
		})
		target := n
		if round < closes {
			target = min(n, done.count()+n/(closes+1))
		}
		require.Eventually(t, func() bool { return done.count() >= target }, liveness, time.Millisecond)
		require.NoError(t, sub.Close())
		wait()
		require.Zero(t, done.duplicates(), "after %d stops", round)
	}
	done.requireComplete(t, n, keys)
}

func TestSubscriber_StopLeavesHandlersTheirTime(t *testing.T) {
	t.Parallel()
	topic, group := harness.Topic(t, 1), harness.Group(t)
	produce(t, topic, 2, 1)
	ctx, cancel := context.WithCancel(t.Context())
	sub := newSubscriber(t, group, kafka.SubscriberConfig{})
	messages, err := sub.Subscribe(ctx, topic)
	require.NoError(t, err)
	msg := next(t, messages)

	cancel() // as Watermill's Router does when it closes
	closed := make(chan struct{})
	go func() { defer close(closed); _ = sub.Close() }()
	select {
	case <-msg.Context().Done():
		require.Fail(t, "the stop ended the context of a message that is being handled")
	case <-closed:
		require.Fail(t, "the stop did not wait for the handler")
	case <-time.After(500 * time.Millisecond): // a stop that cancels would have done so by now
	}
	require.True(t, msg.Ack())
	<-closed
	require.Error(t, msg.Context().Err(), "the context ends with the answer")
	_, open := <-messages
	require.False(t, open, "no message comes after a stop")
	require.Equal(t, map[int32]int64{0: 1}, committed(t, group, topic))
}

func TestSubscriber_StuckHandlerIsLeftBehindAtItsDeadline(t *testing.T) {
	t.Parallel()
	topic, group := harness.Topic(t, 1), harness.Group(t)
	produce(t, topic, 1, 1)
	abandoned := make(chan *record.Record, 1)
	sub := newSubscriber(t, group, kafka.SubscriberConfig{DrainTimeout: 300 * time.Millisecond},
		kafka.Hooks{Abandoned: func(rec *record.Record) { abandoned <- rec }})
	msg := next(t, subscribe(t, sub, topic))
	require.NoError(t, sub.Close())
	require.ErrorIs(t, msg.Context().Err(), context.Canceled)
	require.Equal(t, int64(0), (<-abandoned).Offset)
	msg.Ack() // too late
	require.Empty(t, committed(t, group, topic))

	again := next(t, subscribe(t, newSubscriber(t, group, kafka.SubscriberConfig{}), topic))
	require.Equal(t, place{0, 0}, placeOf(t, again))
	again.Ack()
}

func TestSubscriber_HandsOverWithStuckHandlersInTwoSeconds(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]kafka.Rebalance{"cooperative": kafka.Cooperative, "eager": kafka.Eager} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testHandOver(t, mode)
		})
	}
}

func testHandOver(t *testing.T, mode kafka.Rebalance) {
	const partitions = 4
	topic, group := harness.Topic(t, partitions), harness.Group(t)
	produce(t, topic, 400, 40)
	cfg := kafka.SubscriberConfig{Rebalance: mode, DrainTimeout: time.Second}

	stuck := map[place]*message.Message{}
	old := subscribe(t, newSubscriber(t, group, cfg), topic)
	for range partitions {
		msg := next(t, old)
		stuck[placeOf(t, msg)] = msg // and never answered
	}

	began := time.Now()
	msg := next(t, subscribe(t, newSubscriber(t, group, cfg), topic))
	took := time.Since(began)
	t.Logf("%s hand-over took %s", t.Name(), took)
	require.Less(t, took, 55*time.Second, "not after the minute for which a rebalance would wait")

	lost := stuck[placeOf(t, msg)]
	require.NotNil(t, lost, "the new owner begins with the record that was stuck")
	require.ErrorIs(t, lost.Context().Err(), context.Canceled)
	lost.Ack() // too late: the partition is another member's
	require.Empty(t, committed(t, group, topic))
	msg.Nack()
}

func TestSubscriber_RebalancesDuplicateNothingWhileHandlersAreQuick(t *testing.T) {
	t.Parallel()
	const n, keys = 6000, 60
	topic, group := harness.Topic(t, 6), harness.Group(t)
	produce(t, topic, n, keys)
	done := newJournal()
	work := func(msg *message.Message) {
		<-time.After(rand.N(4 * time.Millisecond))
		done.record(t, msg)
		msg.Ack()
	}
	cfg := kafka.SubscriberConfig{Concurrency: 2, RevokeGrace: 5 * time.Second}
	wait := handle(subscribe(t, newSubscriber(t, group, cfg), topic), work)
	for i := 0; done.count() < n && i < 5; i++ {
		guest := newSubscriber(t, group, cfg)
		left := handle(subscribe(t, guest, topic), work)
		before := done.count()
		require.Eventually(t, func() bool { return done.count() >= min(n, before+n/10) }, liveness, time.Millisecond)
		require.NoError(t, guest.Close())
		left()
	}
	require.Eventually(t, func() bool { return done.count() >= n }, liveness, time.Millisecond)
	require.Zero(t, done.duplicates())
	done.requireComplete(t, n, keys)
	_ = wait
}

func TestSubscriber_CommitNeverPassesAnUnfinishedMessage(t *testing.T) {
	t.Parallel()
	const n, keys = 3000, 100
	topic, group := harness.Topic(t, 2), harness.Group(t)
	produce(t, topic, n, keys)
	cfg := kafka.SubscriberConfig{Concurrency: 16, MaxAhead: 300, DrainTimeout: -1}

	done, held := newJournal(), newJournal()
	sub := newSubscriber(t, group, cfg)
	wait := handle(subscribe(t, sub, topic), func(msg *message.Message) {
		if rand.IntN(100) == 0 {
			held.record(t, msg)
			return // a handler that never answers
		}
		<-time.After(rand.N(5 * time.Millisecond))
		done.record(t, msg)
		msg.Ack()
	})
	for range 3 { // while it runs, until everything is stuck behind what is held
		<-time.After(time.Second) // a commit interval
		requireBelow(t, held, committed(t, group, topic))
	}
	require.NoError(t, sub.Close())
	wait()
	requireBelow(t, held, committed(t, group, topic))
	require.NotEmpty(t, held.times)
	require.NotEmpty(t, committed(t, group, topic))

	cfg.DrainTimeout = 0
	sub = newSubscriber(t, group, cfg)
	handle(subscribe(t, sub, topic), func(msg *message.Message) { done.record(t, msg); msg.Ack() })
	require.Eventually(t, func() bool { done.mu.Lock(); defer done.mu.Unlock(); return len(done.times) == n }, liveness, 10*time.Millisecond)
}

// requireBelow fails if an offset was committed beyond a held record.
func requireBelow(t *testing.T, held *journal, offsets map[int32]int64) {
	t.Helper()
	held.mu.Lock()
	defer held.mu.Unlock()
	for at := range held.times {
		require.LessOrEqual(t, offsets[at.partition], at.offset, "committed beyond a record that is not finished")
	}
}

func TestSubscriber_HandsOverUndecodableRecordsAsTheyAre(t *testing.T) {
	t.Parallel()
	topic, group := harness.Topic(t, 1), harness.Group(t)
	garbage := make([]byte, 300)
	for i := range garbage {
		garbage[i] = byte(rand.Uint32())
	}
	recs := []*kgo.Record{
		{Topic: topic, Key: nil, Value: nil},
		{Topic: topic, Key: []byte{}, Value: []byte{}},
		{Topic: topic, Key: []byte{0xff, 0}, Value: garbage, Headers: []kgo.RecordHeader{
			{Key: "event-id", Value: garbage}, {Key: "x", Value: []byte{1}}, {Key: "x", Value: nil}, {Key: "", Value: []byte("no name")},
		}},
		{Topic: topic, Key: []byte("k"), Value: []byte("last")},
	}
	require.NoError(t, independent(t).ProduceSync(t.Context(), recs...).FirstErr())

	messages := subscribe(t, newSubscriber(t, group, kafka.SubscriberConfig{}), topic)
	for i, want := range recs {
		msg := next(t, messages)
		rec, ok := record.From(msg.Context())
		require.True(t, ok)
		require.Equal(t, int64(i), rec.Offset)
		require.Equal(t, topic, rec.Topic)
		require.Equal(t, group, rec.Group)
		require.Equal(t, want.Key, rec.Key)
		require.Equal(t, string(want.Value), string(msg.Payload))
		require.Equal(t, want.Value == nil, msg.Payload == nil, "a null value stays null")
		require.Len(t, rec.Headers, len(want.Headers))
		for j, h := range want.Headers {
			require.Equal(t, record.Header{Key: h.Key, Value: h.Value}, rec.Headers[j])
		}
		msg.Ack()
	}
}

func TestSubscriber_NackedMessageComesAgainBeforeTheNextOfItsKey(t *testing.T) {
	t.Parallel()
	const n, keys, refusals = 60, 3, 3
	topic, group := harness.Topic(t, 1), harness.Group(t)
	produce(t, topic, n, keys)
	var nacked atomic.Int64
	sub := newSubscriber(t, group, kafka.SubscriberConfig{Concurrency: keys, NackBackOff: 20 * time.Millisecond}, kafka.Hooks{
		Nacked: func(n kafka.Nack) {
			nacked.Add(1)
			require.Equal(t, min(20<<(n.Attempt-1), 5000), int(n.Again.Milliseconds()))
		},
	})
	done := newJournal()
	var mu sync.Mutex
	left := refusals
	others := 0
	handle(subscribe(t, sub, topic), func(msg *message.Message) {
		mu.Lock()
		refuse := keyOf(msg) == "k0" && string(msg.Payload) == "2" && left > 0
		if refuse {
			left--
		} else if left > 0 && keyOf(msg) != "k0" {
			others++
		}
		mu.Unlock()
		if refuse {
			msg.Nack()
			return
		}
		done.record(t, msg)
		msg.Ack()
	})
	require.Eventually(t, func() bool { return done.count() == n }, liveness, time.Millisecond)
	done.requireComplete(t, n, keys)
	require.Zero(t, done.duplicates())
	require.Equal(t, int64(refusals), nacked.Load())
	mu.Lock()
	defer mu.Unlock()
	require.Greater(t, others, n/keys, "the other keys go on meanwhile")
}
