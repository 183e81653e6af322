package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

func newRouter(t *testing.T, deadLetters message.Publisher, cfg consumer.Config) *consumer.Router {
	t.Helper()
	r, err := consumer.New(deadLetters, cfg)
	require.NoError(t, err)
	return r
}

func succeed(*message.Message) error { return nil }

func TestNew_ReportsAllBadFieldsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := consumer.New(nil, consumer.Config{Timeout: -2, DrainTimeout: -1, Retry: consumer.FixedBackOff(0, -1)})
	for _, want := range []string{"deadLetters: must not be nil", "Timeout: must be positive or -1, is -2ns", "DrainTimeout: must be at least 0s", "Retry: retries: must be at least 0, is -1"} {
		require.ErrorContains(t, err, want)
	}
}

type topics map[string]int

func (ts topics) Partitions(_ context.Context, topic string) (int, error) {
	if n, ok := ts[topic]; ok {
		return n, nil
	}
	return 0, errors.New("no such topic")
}

func TestRouter_ReportsAllBadWiringAtOnce(t *testing.T) {
	t.Parallel()
	r := newRouter(t, &broker{}, consumer.Config{})
	require.ErrorContains(t, r.Run(t.Context()), "no handlers")
	r.Handle("", topic, newFeed(), succeed)
	r.Handle("a", "no topic!", newFeed(), succeed)
	r.Handle("b", topic, nil, succeed)
	r.Handle("c", topic, newFeed(), nil)
	r.Handle("d", topic, newFeed(), succeed, consumer.WithDeadLetterTopic(topic))
	r.Handle("e", topic, newFeed(), succeed, consumer.WithRetry(consumer.FixedBackOff(time.Second, -1)))
	r.Handle("e", topic, newFeed(), consumer.Typed[order](nil, nil))
	err := r.Run(t.Context())
	for _, want := range []string{
		`handler "": name: must be set`, `handler "a": topic: must be the name of a topic, is "no topic!"`, `handler "b": subscriber: must not be nil`,
		`handler "c": handler function: must not be nil`, `handler "d": dead-letter topic: must not be the source topic`,
		`handler "e": WithRetry: retries: must be at least 0, is -1`, `handler "e": name is already used`, `handler "e": handler function: must not be nil`,
	} {
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, r.Validate(), err)
}

func TestRouter_RefusesMissingAndNarrowTopics(t *testing.T) {
	t.Parallel()
	r := newRouter(t, &broker{}, consumer.Config{Partitions: topics{topic: 6, dlt: 3, "other": 1}.Partitions})
	r.Handle("narrow", topic, newFeed(), succeed)
	r.Handle("unknown", "unknown", newFeed(), succeed)
	r.Handle("no dead letters", "other", newFeed(), succeed)
	err := r.Run(t.Context())
	require.ErrorContains(t, err, `"narrow": dead-letter topic "notification.v1.dlt" has 3 partitions, fewer than the 6`)
	require.ErrorContains(t, err, `"unknown": topic "unknown": no such topic`)
	require.ErrorContains(t, err, `"no dead letters": dead-letter topic "other.dlt": no such topic`)
}

func TestRouter_AcknowledgesWhatItHandled(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 1)
	r := newRouter(t, &broker{}, consumer.Config{Hooks: done.hooks()})
	f := newFeed()
	r.Handle("views", topic, f, succeed)
	stop := start(t, r)
	msg := f.give(newRecord(), "x")
	d := done.next(t)
	require.True(t, acked(msg))
	require.Positive(t, d.Duration)
	d.Duration = 0
	require.Equal(t, consumer.Delivery{
		Handler: "views", Topic: topic, Group: group, Partition: 3, Offset: 42, MessageID: "id-1",
		Attempts: 1, Outcome: consumer.OutcomeDone,
	}, d)
	require.NoError(t, stop())
	require.True(t, f.closed.Load())
	require.ErrorIs(t, r.Run(t.Context()), consumer.ErrUsed)
}

func TestRouter_TurnsEachKindOfFailureIntoADeadLetter(t *testing.T) {
	t.Parallel()
	for want, handle := range map[deadletter.Disposition]message.NoPublishHandlerFunc{
		deadletter.DispositionDecode:    consumer.Typed(consumer.JSON[order], func(context.Context, order) error { return nil }),
		deadletter.DispositionFatal:     func(*message.Message) error { return consumer.Fatal(errDown) },
		deadletter.DispositionPanic:     func(*message.Message) error { panic("boom") },
		deadletter.DispositionExhausted: func(*message.Message) error { return errDown },
		deadletter.DispositionTimeout: func(m *message.Message) error {
			<-m.Context().Done()
			return m.Context().Err()
		},
	} {
		t.Run(string(want), func(t *testing.T) {
			t.Parallel()
			b, done := &broker{}, make(deliveries, 1)
			r := newRouter(t, b, consumer.Config{Hooks: done.hooks(), Retry: consumer.FixedBackOff(time.Millisecond, 1)})
			f := newFeed()
			timeout := time.Hour
			if want == deadletter.DispositionTimeout {
				timeout = 20 * time.Millisecond
			}
			r.Handle("views", topic, f, handle, consumer.WithTimeout(timeout))
			stop := start(t, r)
			msg := f.give(newRecord(), "{not json")
			d := done.next(t)
			require.Equal(t, consumer.OutcomeDeadLettered, d.Outcome)
			require.Equal(t, want, d.Disposition)
			require.Error(t, d.Err)
			require.True(t, acked(msg))
			require.Len(t, b.All(), 1)
			require.Equal(t, string(want), b.All()[0].Header("dlt-disposition"))
			require.Equal(t, []byte("{not json"), b.All()[0].Value)
			require.NoError(t, stop())
			require.False(t, b.IsClosed(), "the publisher is shared")
		})
	}
}

func TestRouter_SkipsWhatWasReplayedForAnotherGroup(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 2)
	r := newRouter(t, &broker{}, consumer.Config{Hooks: done.hooks()})
	f := newFeed()
	r.Handle("views", topic, f, succeed)
	start(t, r)
	other := f.give(newRecord(header("dlt-target-group", "sender")), "x")
	d := done.next(t)
	require.Equal(t, consumer.OutcomeSkipped, d.Outcome)
	require.Zero(t, d.Attempts)
	require.True(t, acked(other))
	f.give(newRecord(header("dlt-target-group", group)), "x")
	require.Equal(t, consumer.OutcomeDone, done.next(t).Outcome)
}

func TestRouter_LetsASlowHandlerFinishOnAGracefulStop(t *testing.T) {
	t.Parallel()
	b, done := &broker{}, make(deliveries, 1)
	r := newRouter(t, b, consumer.Config{Hooks: done.hooks()})
	f := newFeed()
	working, finish := make(chan struct{}), make(chan struct{})
	var ctxErr error
	r.Handle("views", topic, f, func(m *message.Message) error {
		close(working)
		<-finish
		ctxErr = m.Context().Err()
		return ctxErr
	})
	stop := start(t, r)
	msg := f.give(newRecord(), "x")
	<-working
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	require.Never(t, func() bool { return len(stopped) > 0 || f.closed.Load() }, 50*time.Millisecond, 5*time.Millisecond)
	require.Equal(t, 1, r.Status().InFlight)
	close(finish)
	require.NoError(t, <-stopped)
	require.NoError(t, ctxErr)
	require.True(t, acked(msg))
	require.Equal(t, consumer.OutcomeDone, done.next(t).Outcome)
	require.Empty(t, b.Times())
}

func TestRouter_CutsOffHandlersWhenTheDrainTimeIsUp(t *testing.T) {
	t.Parallel()
	b, done := &broker{}, make(deliveries, 1)
	r := newRouter(t, b, consumer.Config{Hooks: done.hooks(), DrainTimeout: 20 * time.Millisecond})
	f := newFeed()
	working := make(chan struct{})
	r.Handle("views", topic, f, func(m *message.Message) error {
		close(working)
		<-m.Context().Done()
		return fmt.Errorf("call gateway: %w", errDown) // not even a context error
	})
	stop := start(t, r)
	msg := f.give(newRecord(), "x")
	<-working
	require.NoError(t, stop())
	require.Equal(t, consumer.OutcomeUnfinished, done.next(t).Outcome)
	require.False(t, acked(msg))
	require.Empty(t, b.Times(), "a cut-off delivery is no dead letter")
}

func TestRouter_ReportsHandlersThatIgnoreTheirContext(t *testing.T) {
	t.Parallel()
	r := newRouter(t, &broker{}, consumer.Config{DrainTimeout: 10 * time.Millisecond})
	f := newFeed()
	working, finish, finished := make(chan struct{}), make(chan struct{}), make(chan struct{})
	r.Handle("stuck one", topic, f, func(*message.Message) error {
		defer close(finished)
		close(working)
		<-finish
		return nil
	})
	stop := start(t, r)
	f.give(newRecord(), "x")
	<-working
	err := stop()
	require.ErrorIs(t, err, consumer.ErrStillRunning)
	require.ErrorContains(t, err, "stuck one")
	close(finish)
	<-finished
}

func TestRouter_StopDoesNotWaitForBackOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refuse error
		retry  consumer.Policy
	}{
		"of the handler":     {nil, consumer.FixedBackOff(time.Hour, 1)},
		"of the dead letter": {errDown, consumer.FixedBackOff(0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			done, waiting := make(deliveries, 1), make(chan struct{}, 1)
			hooks := done.hooks()
			hooks.Retrying = func(consumer.RetryInfo) { waiting <- struct{}{} }
			hooks.DeadLetterFailed = func(consumer.RetryInfo) { waiting <- struct{}{} }
			r := newRouter(t, &broker{Refuse: []error{c.refuse}}, consumer.Config{Hooks: hooks, Retry: c.retry, DeadLetterWait: time.Hour})
			f := newFeed()
			r.Handle("views", topic, f, func(*message.Message) error { return errDown })
			stop := start(t, r)
			msg := f.give(newRecord(), "x")
			<-waiting
			require.NoError(t, stop())
			require.Equal(t, consumer.OutcomeUnfinished, done.next(t).Outcome)
			require.False(t, acked(msg))
		})
	}
}

func TestRouter_TellsOfBlockedDeadLetters(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 1)
	var healed atomic.Bool
	dead := &broker{Judge: func(sent) error {
		if healed.Load() {
			return nil
		}
		return errDown
	}}
	r := newRouter(t, dead, consumer.Config{Hooks: done.hooks(), DeadLetterWait: 10 * time.Millisecond})
	f := newFeed()
	r.Handle("views", topic, f, func(*message.Message) error { return consumer.Fatal(errDown) })
	start(t, r)
	f.give(newRecord(), "x")
	require.Eventually(t, func() bool { return r.Status().DeadLettersBlocked == 1 }, liveness, time.Millisecond)
	healed.Store(true)
	require.Equal(t, consumer.OutcomeDeadLettered, done.next(t).Outcome)
	require.Zero(t, r.Status().DeadLettersBlocked)
}

func TestRouter_EndsWithAnErrorWhenASubscriptionEnds(t *testing.T) {
	t.Parallel()
	r := newRouter(t, &broker{}, consumer.Config{})
	dying, healthy := newFeed(), newFeed()
	r.Handle("dying", topic, dying, succeed)
	r.Handle("healthy", topic, healthy, succeed)
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	<-r.Running()
	require.NoError(t, dying.Close())
	err := <-done
	require.ErrorIs(t, err, consumer.ErrSubscriptionEnded)
	require.ErrorContains(t, err, `handler "dying"`)
	require.True(t, healthy.closed.Load())
}

type refusing struct{ *feed }

func (refusing) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return nil, errDown
}

func TestRouter_CleansUpWhenASubscriptionIsRefused(t *testing.T) {
	t.Parallel()
	r := newRouter(t, &broker{}, consumer.Config{})
	good := newFeed()
	r.Handle("good", topic, good, succeed)
	r.Handle("bad", topic, refusing{newFeed()}, succeed)
	err := r.Run(t.Context())
	require.ErrorIs(t, err, errDown)
	require.ErrorContains(t, err, `handler "bad": subscribe notification.v1`)
	require.True(t, good.closed.Load())
	require.Error(t, good.ctx.Err())
}

func TestRouter_RunsTheChainInItsOrder(t *testing.T) {
	t.Parallel()
	var seen []string
	note := func(name string) message.HandlerMiddleware {
		return func(next message.HandlerFunc) message.HandlerFunc {
			return func(m *message.Message) ([]*message.Message, error) {
				_, bounded := m.Context().Deadline()
				seen = append(seen, fmt.Sprintf("%s traced=%v bounded=%v", name, m.Context().Value(tracedKey{}) != nil, bounded))
				return next(m)
			}
		}
	}
	done := make(deliveries, 1)
	b := &broker{}
	r := newRouter(t, b, consumer.Config{Hooks: done.hooks(), Tracer: marking{}})
	f := newFeed()
	r.Handle("views", topic, f, func(m *message.Message) error {
		_, _ = note("handler")(func(*message.Message) ([]*message.Message, error) { return nil, nil })(m)
		return errDown
	}, consumer.WithAround(note("around")), consumer.WithInside(note("inside")), consumer.WithRetry(consumer.FixedBackOff(0, 1)))
	start(t, r)
	f.give(newRecord(header("traceparent", "given")), "x")
	d := done.next(t)
	require.Equal(t, 2, d.Attempts)
	require.Equal(t, "given", d.Traceparent)
	require.Equal(t, []string{
		"around traced=true bounded=false",
		"inside traced=true bounded=false", "handler traced=true bounded=true",
		"inside traced=true bounded=false", "handler traced=true bounded=true",
	}, seen)
	require.Len(t, b.All(), 1)
}

type tracedKey struct{}

type marking struct{ tracer }

func (marking) Continue(ctx context.Context, traceparent string) context.Context {
	return context.WithValue(ctx, tracedKey{}, traceparent)
}

func TestRouter_WorksOnAnySubscriber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &broker{}
		r := newRouter(t, b, consumer.Config{})
		f := newFeed()
		r.Handle("plain", topic, f, func(*message.Message) error { return errDown }, consumer.WithGroup("named"))
		stop := start(t, r)
		m := message.NewMessageWithContext(f.ctx, "u", []byte("x"))
		m.Metadata.Set(outbox.MetadataKey, "k")
		m.Metadata.Set("b", "2")
		m.Metadata.Set("a", "1")
		f.out <- m
		<-m.Acked()
		got := b.All()[0]
		require.Equal(t, dlt, got.Topic)
		require.Equal(t, record.PartitionByKey, got.Partition)
		require.Equal(t, []byte("k"), got.Key)
		require.Equal(t, []record.Header{header("a", "1"), header("b", "2")}, got.Headers[:2])
		require.Equal(t, "named", got.Header("dlt-target-group"))
		require.Zero(t, got.Count("kafka_dlt-original-offset"))
		require.NoError(t, stop())
	})
}
