package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// under publishes batches without end until stop, while a fault goes on.
func under(t *testing.T, k *harness.KafkaServer, topic string, change func(*kafka.Config), fault func(pub *kafka.Publisher)) (entries []outbox.Entry, rounds int) {
	t.Helper()
	pub := newPublisher(t, k.Brokers(), change)
	require.NoError(t, pub.Connect(t.Context()))
	over := make(chan struct{})
	go func() {
		defer close(over)
		fault(pub)
	}()
	for n := 0; ; n++ {
		more := numbered(topic, 5000, 100, 200)
		for i := range more {
			more[i].AggregateVersion += int64(n * 50)
		}
		entries = append(entries, more...)
		rounds += pump(t.Context(), t, pub, more, 200)
		select {
		case <-over:
			return entries, rounds - n - 1
		default:
		}
	}
}

func TestPublisher_KeepsOrderThroughBrokerKillAndRestart(t *testing.T) {
	t.Parallel()
	k := harness.PrivateKafka(t, harness.KafkaConfig{})
	topic := harness.TopicOn(t, k.Brokers(), 6)
	entries, broken := under(t, k, topic, func(*kafka.Config) {}, func(pub *kafka.Publisher) {
		for range 3 {
			<-time.After(300 * time.Millisecond) // let it work a little between the faults
			if err := k.Kill(); err != nil {
				t.Error(err)
			}
			awaitReachable(t, pub, false)
			if err := k.Start(context.Background()); err != nil {
				t.Error(err)
			}
			began := time.Now()
			awaitReachable(t, pub, true)
			t.Logf("went on %s after the broker", time.Since(began).Round(time.Millisecond))
		}
	})
	require.Zero(t, broken, "a restart of the broker surfaced")
	duplicates := requireAll(t, k.Brokers(), topic, entries)
	t.Logf("%d messages, %d duplicates", len(entries), duplicates)
}

func TestPublisher_KeepsOrderThroughAFrozenBroker(t *testing.T) {
	t.Parallel()
	k := harness.PrivateKafka(t, harness.KafkaConfig{Real: true})
	topic := harness.TopicOn(t, k.Brokers(), 6)
	entries, broken := under(t, k, topic, func(c *kafka.Config) { c.RequestTimeout = 4 * time.Second }, func(*kafka.Publisher) {
		<-time.After(300 * time.Millisecond)
		if k.Pause() == nil {
			<-time.After(10 * time.Second) // longer than the request timeout
			_ = k.Resume()
		}
	})
	require.Zero(t, broken, "a frozen broker surfaced")
	require.Zero(t, requireAll(t, k.Brokers(), topic, entries), "the broker knows repeated requests of one producer")
}

func TestPublisher_StopsAtOnceWhileTheBrokerIsFrozenAndLosesNothing(t *testing.T) {
	t.Parallel()
	k := harness.PrivateKafka(t, harness.KafkaConfig{Real: true})
	topic := harness.TopicOn(t, k.Brokers(), 6)
	pub := newPublisher(t, k.Brokers())
	first := numbered(topic, 100, 100, 10)
	pump(t.Context(), t, pub, first, 100)

	require.NoError(t, k.Pause())
	ctx, cancel := context.WithCancel(t.Context())
	entries := numbered(topic, 20_000, 100, 200)
	for i := range entries {
		entries[i].AggregateVersion++
	}
	v := newVerdicts(len(entries))
	handed := make(chan struct{})
	go func() {
		defer close(handed)
		for i := 0; i < len(entries); i += 1000 {
			pub.PublishBatch(ctx, entries[i:i+1000], v.ack(i))
		}
	}()
	require.Eventually(t, func() bool { return pub.State().InFlight > 0 }, liveness, time.Millisecond)
	cancel()
	<-handed // though the broker still answers nothing
	v.check(t, entries)
	require.ErrorIs(t, v.errs[len(entries)-1], context.Canceled)

	require.NoError(t, k.Resume())
	var rest []outbox.Entry
	for i := range entries {
		if v.errs[i] != nil {
			rest = append(rest, entries[i])
		}
	}
	pump(t.Context(), t, pub, rest, 1000)
	t.Logf("%d duplicates", requireAll(t, k.Brokers(), topic, append(first, entries...)))
	require.NoError(t, pub.Close())
}

// awaitReachable may be called on any goroutine of the test.
func awaitReachable(t *testing.T, pub *kafka.Publisher, want bool) {
	err := harness.Until(t.Context(), liveness, func(context.Context) error {
		if pub.State().Reachable != want {
			return fmt.Errorf("reachable is %t", !want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
