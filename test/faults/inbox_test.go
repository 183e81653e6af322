package faults

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
)

// An event's first attempt fails. It is not taken for done, as a deduplicator
// before the handler would; nor are two events of equal payload taken for one.
func TestInbox_EventWhoseFirstAttemptFailsIsStillDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.produce(40, keysOf(4)...)
	w.mu.Lock()
	twin := w.event("k0")
	w.mu.Unlock()
	twin.Value = []byte("k0 0") // another event that says the same as the first
	w.send(twin)
	var mu sync.Mutex
	tried := map[string]bool{}
	handle := w.inbox(w.db.DB).Handler(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		if err := effect(ctx, tx, msg); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if !tried[msg.UUID] {
			tried[msg.UUID] = true
			return errDown // after the effect was made
		}
		return nil
	})
	r := w.router(consumer.Config{Retry: consumer.FixedBackOff(time.Millisecond, 1)})
	r.Handle("first", w.topic, w.subscriber(kafka.SubscriberConfig{Concurrency: 4}), handle)
	stop := start(t, r)
	w.awaitCount(consumer.OutcomeDone, 41)
	require.NoError(t, stop())
	require.Equal(t, 41, w.total())
	require.Equal(t, 0, w.effects()["k0"][10], "the twin was done too")
	require.Empty(t, w.deadLetters())
}

// The ids of done events are pruned, and then everything is delivered again, twice
// over: by offsets that are set back, and as copies.
func TestInbox_ReplayOfEverythingAfterPruningChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.produce(200, keysOf(10)...)
	pruned := make(chan int, 1)
	in, err := inbox.New(w.db.DB, w.group, inbox.Config{Hooks: inbox.Hooks{Pruned: func(rows int, _ error) { pruned <- rows }}})
	require.NoError(t, err)
	run := func(done int) {
		r := w.router(consumer.Config{})
		r.Handle("pruned", w.topic, w.subscriber(kafka.SubscriberConfig{Concurrency: 4}), in.Handler(effect))
		stop := start(t, r)
		w.awaitCount(consumer.OutcomeDone, done)
		require.NoError(t, stop())
	}
	run(200)
	_, err = w.db.DB.ExecContext(t.Context(), `UPDATE consumer_inbox SET applied_at = applied_at - interval '40 days'`)
	require.NoError(t, err)
	ctx, stopPruning := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx) }()
	require.Equal(t, 200, <-pruned)
	stopPruning()
	require.NoError(t, <-ended)

	back := kadm.Offsets{}
	for p := range int32(2) {
		back.Add(kadm.Offset{Topic: w.topic, Partition: p, At: 0})
	}
	require.NoError(t, kadm.NewClient(w.client).CommitAllOffsets(t.Context(), w.group, back))
	clear(w.produced)
	w.produce(200, keysOf(10)...) // the same events once more
	run(200 + 400)
	w.requireOnceInOrder()
}

// The connection to the database breaks again and again, now and then in COMMIT:
// nobody can say whether the effect was made, but the inbox can.
func TestInbox_CommitsThatGetNoAnswerDoubleNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.produce(600, keysOf(30)...)
	db, proxy := w.proxied()
	r := w.router(consumer.Config{Retry: consumer.FixedBackOff(10*time.Millisecond, 200)})
	r.Handle("cut", w.topic, w.subscriber(kafka.SubscriberConfig{Concurrency: 8}), w.inbox(db).Handler(effect))
	start(t, r)
	drops := 0
	for ; w.missing() > 0 && drops < 100; drops++ {
		<-time.After(20 * time.Millisecond)
		proxy.Drop()
	}
	w.awaitEffects()
	t.Logf("%d times all connections were reset", drops)
	w.requireOnceInOrder()
	require.Empty(t, w.deadLetters())
}
