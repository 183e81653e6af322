package faults

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
)

// hangs is how long the handler blocks until the router gives up: long enough
// for the few events of the other keys, on any machine.
const hangs = 20 * time.Second

// A handler blocks forever and ignores its context. The watchdog reports it, other
// keys go on, and then the router gives up, so that another member gets the
// partition and the process can be restarted.
func TestHang_IsReportedAndLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.produce(200, keysOf(10)...)
	handle := w.inbox(w.db.DB).Handler(effect)
	stuck, hanging, freed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	reported := sync.OnceFunc(func() { close(stuck) })
	hang, free := context.WithCancel(context.Background())
	defer free()
	sub := w.subscriber(kafka.SubscriberConfig{
		Concurrency: 4, StuckAfter: 200 * time.Millisecond, DrainTimeout: 200 * time.Millisecond,
	}, kafka.Hooks{Stuck: func(rec *record.Record, _ time.Duration) {
		if rec.Offset == 23 { // on a busy machine a healthy one may be reported, too
			reported()
		}
	}})
	r := w.router(consumer.Config{Timeout: hangs / 2, HangAfter: hangs / 2, DrainTimeout: 200 * time.Millisecond})
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
	<-stuck
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
	require.Empty(t, w.deadLetters())
}
