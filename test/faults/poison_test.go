package faults

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/quarantine"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
)

func keyOf(msg *message.Message) string {
	rec, _ := record.From(msg.Context())
	return string(rec.Key)
}

// The first event of a partition fails for good. Its key waits behind it, among
// the dead letters and in order; the other keys flow; fixed and replayed, the key
// is handled from the first event on.
func TestPoison_AtTheHeadHoldsBackItsKeyAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.produce(200, keysOf(10)...) // k0-0 is the head
	handle := w.inbox(w.db.DB).Handler(effect)
	q, err := quarantine.New(w.db.DB, quarantine.Config{})
	require.NoError(t, err)
	var fixed atomic.Bool
	r := w.router(consumer.Config{Retry: consumer.FixedBackOff(5*time.Millisecond, 3)})
	r.Handle("poisoned", w.topic, w.subscriber(kafka.SubscriberConfig{Concurrency: 4}), func(msg *message.Message) error {
		if msg.UUID == "k0-0" && !fixed.Load() {
			return errDown
		}
		return handle(msg)
	}, consumer.WithAround(q.Middleware()))
	stop := start(t, r)
	w.awaitCount(consumer.OutcomeDeadLettered, 20)
	w.awaitCount(consumer.OutcomeDone, 180)
	require.Empty(t, w.effects()["k0"])
	var numbers []string
	for _, l := range w.deadLetters() {
		numbers = append(numbers, string(l.Value)+" "+l.Header(deadletter.HeaderDisposition))
	}
	require.Len(t, numbers, 20)
	require.Equal(t, "k0 0 exhausted", numbers[0])
	for i, n := range numbers[1:] {
		require.Equal(t, fmt.Sprintf("k0 %d quarantined", i+1), n)
	}

	fixed.Store(true)
	res, err := w.replay(deadletter.Config{})
	require.NoError(t, err)
	require.Equal(t, 20, res.Replayed)
	w.awaitEffects()
	w.produce(20, keysOf(10)...)
	w.awaitEffects()
	w.requireOnceInOrder()
	require.NoError(t, stop())
}

// One key fails all the time. The others do not feel it.
func TestPoison_OnOneKeyLeavesTheLatencyOfOthersAlone(t *testing.T) {
	t.Parallel()
	clean, poisoned := newTimed(t, false), newTimed(t, true)
	const rounds = 100
	for range rounds {
		<-time.After(15 * time.Millisecond)
		clean.produce(10, keysOf(10)...)
		poisoned.produce(10, keysOf(10)...)
	}
	without, with := clean.percentile99(rounds*9), poisoned.percentile99(rounds*9)
	t.Logf("99th percentile of the other keys: %s without, %s with one poison key", without, with)
	require.Less(t, with, 20*time.Second, "behind the poison it would be a minute")
}

// timed is a world in which the time from record to handler is taken.
type timed struct {
	*world
	latencies chan time.Duration
	stop      func() error
}

func newTimed(t *testing.T, poison bool) *timed {
	w := &timed{world: newWorld(t, 1), latencies: make(chan time.Duration, 10_000)}
	r := w.router(consumer.Config{Retry: consumer.FixedBackOff(200*time.Millisecond, 3)})
	r.Handle("timed", w.topic, w.subscriber(kafka.SubscriberConfig{Concurrency: 8}), func(msg *message.Message) error {
		if keyOf(msg) != "k0" {
			rec, _ := record.From(msg.Context())
			w.latencies <- time.Since(rec.Timestamp)
		} else if poison {
			return errDown
		}
		return nil
	})
	w.stop = start(t, r)
	w.produce(10, keysOf(10)...) // the group takes its time to form
	w.take(9)
	return w
}

func (w *timed) take(n int) (all []time.Duration) {
	w.t.Helper()
	for range n {
		select {
		case d := <-w.latencies:
			all = append(all, d)
		case <-time.After(liveness):
			require.FailNow(w.t, "the other keys do not flow")
		}
	}
	return all
}

func (w *timed) percentile99(n int) time.Duration {
	w.t.Helper()
	all := w.take(n)
	require.NoError(w.t, w.stop())
	slices.Sort(all)
	return all[len(all)*99/100].Round(time.Millisecond)
}
