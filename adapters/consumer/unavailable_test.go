package consumer_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/outbox/record"
)

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

func TestIsUnavailable_TellsServersThatCannotBeReachedFromFailuresOfAMessage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nil":                 {nil, false},
		"marked":              {fmt.Errorf("gateway: %w", consumer.ErrUnavailable), true},
		"refused":             {fmt.Errorf("put: %w", errRefused), true},
		"connection closed":   {io.EOF, true},
		"bad connection":      {driver.ErrBadConn, true},
		"server shuts down":   {&pq.Error{Code: "57P01"}, true},
		"no connections left": {fmt.Errorf("insert: %w", &pq.Error{Code: "53300"}), true},
		"name server is away": {&net.OpError{Op: "dial", Err: &net.DNSError{IsTemporary: true}}, true},
		"no such host":        {&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, false},
		"duplicate key":       {&pq.Error{Code: "23505"}, false},
		"timeout":             {context.DeadlineExceeded, false},
		"handler's own time":  {fmt.Errorf("%w after 10s: %w", consumer.ErrTimeout, errRefused), false},
		"any other":           {errDown, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, consumer.IsUnavailable(c.err))
		})
	}
}

// pausingFeed is a feed whose partitions can be paused.
type pausingFeed struct {
	*feed
	pauser
}

// unavailableRouter runs a handler that fails with what fails holds.
func unavailableRouter(t *testing.T, hooks consumer.Hooks, opts ...consumer.Option) (f *pausingFeed, b *broker, fails *atomic.Value, r *consumer.Router) {
	t.Helper()
	f, b, fails = &pausingFeed{feed: newFeed()}, &broker{}, &atomic.Value{}
	r = newRouter(t, b, consumer.Config{Retry: consumer.FixedBackOff(time.Millisecond, 2), Hooks: hooks})
	r.Handle("views", topic, f, func(*message.Message) error { return fails.Load().(func() error)() }, opts...)
	return f, b, fails, r
}

func TestRouter_PausesWhileADependencyIsUnavailableWithoutBeingAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := make(deliveries, 3)
		var log bytes.Buffer
		f, b, fails, r := unavailableRouter(t, done.hooks().Tee(consumer.LogHooks(slog.New(slog.NewTextHandler(&log, nil)))))
		stop := start(t, r)
		fails.Store(func() error { return fmt.Errorf("put: %w", errRefused) })
		f.give(newRecord(), "1")
		synctest.Wait()
		require.True(t, f.is(3), "the first failure pauses the partition")
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Empty(t, b.All(), "no dead letter, however long it takes")
		require.Len(t, r.Status().Paused, 1)
		require.ErrorIs(t, r.Status().Paused[0].Err, syscall.ECONNREFUSED)

		fails.Store(func() error { return nil })
		require.Equal(t, consumer.OutcomeDone, done.next(t).Outcome)
		synctest.Wait()
		require.False(t, f.is(3))
		require.Empty(t, r.Status().Paused)

		fails.Store(func() error { return errDown })
		f.give(newRecord(), "2")
		require.Equal(t, consumer.OutcomeDeadLettered, done.next(t).Outcome, "any other failure is one of the message")
		require.NoError(t, stop())
		require.Contains(t, log.String(), `msg="partition paused: the handler's dependency fails" handler=views`)
		require.Contains(t, log.String(), "msg=\"partition resumed\" handler=views")
		require.Contains(t, log.String(), `msg="message became a dead letter" handler=views`)
		require.Contains(t, log.String(), errDown.Error())
	})
}

func TestRouter_AStopLeavesWhatWaitsForADependency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := make(deliveries, 1)
		f, b, fails, r := unavailableRouter(t, done.hooks())
		stop := start(t, r)
		fails.Store(func() error { return errRefused })
		msg := f.give(newRecord(), "1")
		synctest.Wait()
		require.NoError(t, stop())
		require.Equal(t, consumer.OutcomeUnfinished, done.next(t).Outcome)
		require.False(t, acked(msg))
		require.Empty(t, b.All())
		require.False(t, f.is(3), "nothing is left to be tried")
	})
}

func TestRouter_WithoutABreakerAnUnavailableDependencyMakesDeadLetters(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 1)
	f, b, fails, r := unavailableRouter(t, done.hooks(), consumer.WithBreaker(nil))
	start(t, r)
	fails.Store(func() error { return errRefused })
	f.give(newRecord(), "1")
	require.Equal(t, consumer.OutcomeDeadLettered, done.next(t).Outcome)
	require.Len(t, b.All(), 1)
}

func TestHandleBatch_WaitsForAnUnavailableDependency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := make(deliveries, 3)
		var down atomic.Bool
		var got calls
		dead := &broker{}
		f, stop := batchRouter(t, dead, done, func(b *record.Batch) error {
			got.note(b)
			if down.Load() {
				return errRefused
			}
			return nil
		})
		down.Store(true)
		f.give("k1:a", "k2:b", "k1:c")
		time.Sleep(time.Hour)
		require.Empty(t, dead.All())
		down.Store(false)
		for id, d := range done.outcomes(t, 3) {
			require.Equal(t, consumer.OutcomeDone, d.Outcome, id)
		}
		require.NoError(t, stop())
	})
}

func TestHooks_TeeCallsBoth(t *testing.T) {
	t.Parallel()
	var calls []string
	named := func(name string) consumer.Hooks {
		return consumer.Hooks{
			Delivered: func(consumer.Delivery) { calls = append(calls, name+" delivered") },
			Panicked:  func(consumer.Delivery, *consumer.PanicError) { calls = append(calls, name+" panicked") },
		}
	}
	both := named("a").Tee(named("b")).Tee(consumer.Hooks{Retrying: func(consumer.RetryInfo) { calls = append(calls, "retrying") }})
	both.Delivered(consumer.Delivery{})
	both.Panicked(consumer.Delivery{}, nil)
	both.Retrying(consumer.RetryInfo{})
	require.Equal(t, []string{"a delivered", "b delivered", "a panicked", "b panicked", "retrying"}, calls)
}

func TestTyped_OfNothingFailsInsteadOfPanicking(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, consumer.Typed[order](nil, nil)(message.NewMessage("1", nil)), "function is nil")
	require.ErrorContains(t, consumer.TypedBatch[order](nil, nil)(nil), "function is nil")
}

func TestDecode_MarksADecodersErrorUnlessItIsMarked(t *testing.T) {
	t.Parallel()
	_, err := consumer.Decode(consumer.JSON[order], message.NewMessage("1", []byte("{")))
	require.ErrorIs(t, err, consumer.ErrDecode)
	own := consumer.Retryable(errors.New("the schema registry is away"))
	_, err = consumer.Decode(func(*message.Message) (order, error) { return order{}, own }, message.NewMessage("1", nil))
	require.Equal(t, own, err)
}

func TestMiddlewares_ReportAllBadFieldsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := consumer.Middlewares("", "no topic!", nil, consumer.Config{Timeout: -2}, consumer.WithParallel(-1))
	for _, want := range []string{"name: must be set", "topic: must be the name of a topic", "deadLetters: must not be nil", "Timeout: must be positive or -1", "WithParallel: must be at least 0"} {
		require.ErrorContains(t, err, want)
	}
}
