package faults

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
)

// The database that handlers write to is away for 20 s under load. Nothing becomes
// a dead letter, hardly anything is tried, partitions stand still, and afterwards
// everything is done, in order.
func TestOutage_OfADependencyPausesPartitionsAndLosesNothing(t *testing.T) {
	t.Parallel()
	const partitions, parallel = 3, 6
	w := newWorld(t, partitions)
	db, proxy := w.proxied()
	var attempts atomic.Int64
	inner := w.inbox(db).Handler(effect)
	sub := w.subscriber(kafka.SubscriberConfig{Concurrency: parallel})
	breaker, err := consumer.NewBreaker(consumer.BreakerConfig{Pauser: sub, InARow: parallel - 1, ProbeEvery: time.Second})
	require.NoError(t, err)
	r := w.router(consumer.Config{Retry: consumer.FixedBackOff(100*time.Millisecond, 3)})
	r.Handle("outage", w.topic, sub, func(msg *message.Message) error {
		attempts.Add(1)
		return inner(msg)
	}, consumer.WithBreaker(breaker))
	stop := start(t, r)
	w.produce(600, keysOf(60)...)
	w.awaitEffects()
	before := attempts.Load()

	proxy.Cut()
	w.produce(600, keysOf(60)...)
	require.Eventually(t, func() bool { return len(breaker.Status()) == partitions }, liveness, time.Millisecond)
	for _, st := range sub.Status() {
		require.True(t, st.Paused, "partition %d", st.Partition)
	}
	<-time.After(20 * time.Second) // the outage
	require.Zero(t, w.missing()-600)
	tries := attempts.Load() - before
	t.Logf("%d attempts in an outage of 20 s with %d deliveries at work", tries, partitions*parallel)
	require.Less(t, tries, int64(partitions*(4*parallel+25)), "first tries, then one a second and partition")
	require.NoError(t, proxy.Heal())
	healed := time.Now()
	w.awaitEffects()
	t.Logf("caught up on 600 events %s after it healed", time.Since(healed).Round(time.Millisecond))
	require.Empty(t, breaker.Status())
	for _, st := range sub.Status() {
		require.False(t, st.Paused, "partition %d", st.Partition)
	}
	require.NoError(t, stop())
	w.requireOnceInOrder()
	require.Empty(t, w.deadLetters())
}

// A held delivery loses its partition to another member, which holds it as well;
// no partition stays paused.
func TestOutage_MembersThatComeAndGoMeanwhileLeaveNothingPaused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	var down atomic.Bool
	down.Store(true)
	inner := w.inbox(w.db.DB).Handler(effect)
	join := func() (*consumer.Breaker, func() error) {
		sub := w.subscriber(kafka.SubscriberConfig{Concurrency: 4})
		breaker, err := consumer.NewBreaker(consumer.BreakerConfig{Pauser: sub, InARow: 2, ProbeEvery: 300 * time.Millisecond})
		require.NoError(t, err)
		r := w.router(consumer.Config{Retry: consumer.FixedBackOff(50*time.Millisecond, 3)})
		r.Handle("outage", w.topic, sub, func(msg *message.Message) error {
			if down.Load() {
				return errDown
			}
			return inner(msg)
		}, consumer.WithBreaker(breaker))
		return breaker, start(t, r)
	}
	w.produce(800, keysOf(40)...)
	first, _ := join()
	require.Eventually(t, func() bool { return len(first.Status()) == 4 }, liveness, time.Millisecond)
	second, leave := join()
	require.Eventually(t, func() bool { return len(second.Status()) == 2 }, liveness, time.Millisecond)
	require.NoError(t, leave())
	require.Zero(t, w.missing()-800)
	down.Store(false)
	w.awaitEffects()
	w.requireOnceInOrder()
	require.Empty(t, w.deadLetters())
}
