package consumer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
)

func TestRouter_GivesUpWhenAHandlerHangs(t *testing.T) {
	t.Parallel()
	r := newRouter(t, &broker{}, consumer.Config{Timeout: 10 * time.Millisecond, HangAfter: 20 * time.Millisecond, DrainTimeout: 10 * time.Millisecond})
	f := newFeed()
	free, freed := make(chan struct{}), make(chan struct{})
	r.Handle("views", topic, f, func(*message.Message) error {
		defer close(freed)
		<-free
		return nil
	})
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	<-r.Running()
	f.give(newRecord(), "x")
	err := <-done
	require.ErrorIs(t, err, consumer.ErrHung)
	require.ErrorIs(t, err, consumer.ErrStillRunning)
	require.ErrorContains(t, err, `handler "views": handler hangs: at work on notification.v1/3/42 for 30ms`)
	require.True(t, f.closed.Load())
	close(free)
	<-freed
}

func TestRouter_WatchesNoHandlerThatHeedsItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := make(deliveries, 1)
		r := newRouter(t, &broker{}, consumer.Config{Hooks: done.hooks(), Retry: consumer.FixedBackOff(0, 30), Timeout: 5 * time.Second, HangAfter: 100 * time.Second})
		f := newFeed()
		r.Handle("views", topic, f, func(m *message.Message) error {
			<-m.Context().Done()
			return m.Context().Err()
		})
		stop := start(t, r)
		f.give(newRecord(), "x")
		require.Equal(t, consumer.OutcomeDeadLettered, done.next(t).Outcome, "31 attempts of 5 s are no hang of 105 s")
		require.NoError(t, stop())
	})
}
