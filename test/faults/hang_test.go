package faults

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
)

// A handler blocks for ever and does not heed its context. The watchdog tells;
// other keys go on; then the router gives up, so that another member gets the
// partition and the process can be started anew.
func TestHang_ForEverIsToldAndLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.produce(200, keysOf(10)...)
	handle := w.inbox(w.db.DB).Handler(effect)
	stuck, hanging, freed := make(chan *record.Record, 100), make(chan struct{}), make(chan struct{})
	hang, free := context.WithCancel(context.Background())
	defer free()
	sub := w.subscriber(kafka.SubscriberConfig{
		Concurrency: 4, StuckAfter: 200 * time.Millisecond, DrainTimeout: 200 * time.Millisecond,
	}, kafka.Hooks{Stuck: func(rec *record.Record, _ time.Duration) { stuck <- rec }})
	r := w.router(consumer.Config{Timeout: 100 * time.Millisecond, HangAfter: 3 * time.Second, DrainTimeout: 200 * time.Millisecond})
	r.Handle("hangs", w.topic, sub, func(msg *message.Message) error {
		if msg.UUID == "k3-2" {
			defer close(freed)
			close(hanging)
			<-hang.Done()
			return nil
		}
		return handle(msg)
	})
	gaveUp := make(chan error, 1)
	go func() { gaveUp <- r.Run(t.Context()) }()
	<-hanging
	require.Equal(t, int64(23), (<-stuck).Offset)
	require.Eventually(t, func() bool { return w.missing() == 18 }, liveness, 5*time.Millisecond, "all but k3 are done")
	require.LessOrEqual(t, w.committed()[0], int64(23))

	second := w.router(consumer.Config{})
	second.Handle("hangs", w.topic, w.subscriber(kafka.SubscriberConfig{Concurrency: 4}), handle)
	start(t, second)
	err := <-gaveUp
	left := time.Now()
	require.ErrorIs(t, err, consumer.ErrHung)
	require.ErrorIs(t, err, consumer.ErrStillRunning)
	require.ErrorContains(t, err, w.topic+"/0/23")
	w.awaitEffects()
	t.Logf("all was done %s after the stuck member gave up", time.Since(left).Round(time.Millisecond))
	w.requireOnceInOrder()
	free()
	<-freed
	require.Empty(t, w.letters())
}
