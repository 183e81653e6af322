package faults

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
)

// Members join and leave all the time while handlers are slower than a rebalance
// waits: anyone who loses a partition stops work on it, and nothing is out of order,
// done twice or taken for dead.
func TestRebalance_WithSlowHandlersKeepsOrderAndEffectsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6)
	w.produce(600, keysOf(24)...)
	surprised := make(chan struct{})
	surprise := sync.OnceFunc(func() { close(surprised) })
	slowly := func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		select {
		case <-surprised:
		default:
			if msg.UUID == "k0-0" { // it is at work until its partition is taken from it
				surprise()
				<-ctx.Done()
				return ctx.Err()
			}
		}
		longest := 60 * time.Millisecond
		if msg.UUID[len(msg.UUID)-1] == '7' {
			longest = 3 * time.Second
		}
		if err := work(ctx, longest); err != nil {
			return err
		}
		return effect(ctx, tx, msg)
	}
	join := func() (stop func() error) {
		r := w.router(consumer.Config{Timeout: liveness, DrainTimeout: 300 * time.Millisecond})
		sub := w.subscriber(kafka.SubscriberConfig{Concurrency: 4, RevokeGrace: 200 * time.Millisecond, DrainTimeout: 300 * time.Millisecond})
		r.Handle("slow", w.topic, sub, w.inbox(w.db.DB).Handler(slowly))
		return start(t, r)
	}
	join()
	<-surprised
	for round := 0; round < 6 && w.missing() > 0; round++ {
		before := w.total()
		leave := join()
		require.Eventually(t, func() bool { return w.total() >= before+30 || w.missing() == 0 }, liveness, 10*time.Millisecond)
		require.NoError(t, leave())
	}
	w.awaitEffects()
	require.Positive(t, w.count(consumer.OutcomeUnfinished), "the first handler lost its partition")
	t.Logf("%d deliveries lost their partition", w.count(consumer.OutcomeUnfinished))
	w.requireOnceInOrder()
	require.Empty(t, w.deadLetters())
}
