package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/outbox/record"
)

// batchRouter runs fn on a feed of batches.
func batchRouter(t *testing.T, b *broker, done deliveries, fn consumer.BatchFunc, opts ...consumer.Option) (*batchFeed, func() error) {
	t.Helper()
	cfg := consumer.Config{Retry: consumer.FixedBackOff(time.Millisecond, 3)}
	if done != nil {
		cfg.Hooks = done.hooks()
	}
	r := newRouter(t, b, cfg)
	f := newBatchFeed()
	r.HandleBatch("views", topic, f, fn, opts...)
	return f, start(t, r)
}

func TestRouter_ReportsBadWiringOfBatchHandlers(t *testing.T) {
	t.Parallel()
	r := newRouter(t, &broker{}, consumer.Config{})
	ok := func(*record.Batch) error { return nil }
	r.HandleBatch("a", topic, nil, ok)
	r.HandleBatch("b", topic, newBatchFeed(), nil)
	r.HandleBatch("c", topic, newBatchFeed(), ok, consumer.WithParallel(-1))
	r.Handle("d", topic, newFeed(), succeed, consumer.WithParallel(2))
	r.HandleBatch("e", topic, newBatchFeed(), consumer.TypedBatch[order](nil, nil))
	err := r.Validate()
	for _, want := range []string{
		`handler "a": subscriber: must not be nil`, `handler "b": handler function: must not be nil`, `handler "c": WithParallel: must be at least 0, is -1`,
		`handler "d": WithParallel: must not be given to a handler of single messages`, `handler "e": handler function: must not be nil`,
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestHandleBatch_GivesTheWholeBatchOnceAndAcknowledgesIt(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 3)
	var got calls
	f, stop := batchRouter(t, &broker{}, done, func(b *record.Batch) error {
		got.note(b)
		for _, m := range append([]*message.Message{nil}, b.Messages...)[1:] {
			if rec, ok := record.From(m.Context()); !ok || rec.Topic != b.Topic || rec.Partition != b.Partition {
				return errors.New("the message lost its record")
			}
		}
		return nil
	})
	batch := f.give("k1:a", "k2:b", "k1:c")
	told := done.outcomes(t, 3)
	require.Equal(t, [][]string{{"k1:a", "k2:b", "k1:c"}}, got.all())
	require.Len(t, batch.acked(), 3)
	d := told["k1:c"]
	d.Duration = 0
	require.Equal(t, consumer.Delivery{
		Handler: "views", Topic: topic, Group: group, Partition: 3, Offset: 2, MessageID: "k1:c", Attempts: 1, Outcome: consumer.OutcomeDone,
	}, d)
	require.NoError(t, stop())
	require.True(t, f.closed.Load())
}

func TestHandleBatch_PoisonOfAFailedBatchCostsItselfOnly(t *testing.T) {
	t.Parallel()
	dead, done := &broker{}, make(deliveries, 5)
	var got calls
	f, _ := batchRouter(t, dead, done, func(b *record.Batch) error {
		if slices.Contains(got.note(b), "k1:poison") {
			return errDown
		}
		return nil
	})
	batch := f.give("k1:a", "k2:b", "k1:poison", "k1:c", ":d")
	told := done.outcomes(t, 5)
	require.Len(t, batch.acked(), 5)
	require.Positive(t, batch.settled.Load())
	for id, d := range told {
		if id == "k1:poison" {
			require.Equal(t, consumer.OutcomeDeadLettered, d.Outcome)
			require.Equal(t, deadletter.DispositionExhausted, d.Disposition)
			require.Equal(t, 4, d.Attempts)
			continue
		}
		require.Equal(t, consumer.OutcomeDone, d.Outcome, id)
		require.Equal(t, 1, d.Attempts, id)
		require.Equal(t, 2, got.of(id), "once with the batch, once alone")
	}
	require.Equal(t, 5, got.of("k1:poison"))
	require.Len(t, dead.All(), 1)
	require.Equal(t, "poison", string(dead.All()[0].Value))
	requireKeyOrder(t, got.all()[1:], "k1:a", "k1:poison", "k1:c")
}

// requireKeyOrder fails unless the single calls end with ids in this order.
func requireKeyOrder(t *testing.T, calls [][]string, ids ...string) {
	t.Helper()
	last := map[string]int{}
	for i, call := range calls {
		require.Len(t, call, 1)
		last[call[0]] = i
	}
	for i := 1; i < len(ids); i++ {
		require.Less(t, last[ids[i-1]], last[ids[i]], "%s before %s", ids[i-1], ids[i])
	}
}

func TestHandleBatch_RepeatsOnlyWhatABatchErrorNames(t *testing.T) {
	t.Parallel()
	dead, done := &broker{}, make(deliveries, 6)
	var got calls
	f, _ := batchRouter(t, dead, done, func(b *record.Batch) error {
		if len(got.note(b)) == 1 && b.Messages[0].UUID == "k1:poison" {
			return errDown
		}
		if len(b.Messages) > 1 {
			return &consumer.BatchError{Failed: map[int]error{1: errDown, 3: nil, 4: consumer.Fatal(errDown)}}
		}
		return nil
	})
	batch := f.give("k1:a", "k1:poison", "k2:b", "k1:c", "k3:fatal", "k2:d")
	told := done.outcomes(t, 6)
	require.Len(t, batch.acked(), 6)
	require.Equal(t, 4, told["k1:poison"].Attempts)
	require.Equal(t, 4, got.of("k1:poison"), "the batch was the first attempt")
	require.Equal(t, deadletter.DispositionFatal, told["k3:fatal"].Disposition)
	require.Equal(t, 1, got.of("k3:fatal"), "what cannot succeed is not tried again")
	require.Equal(t, 1, told["k3:fatal"].Attempts)
	require.Equal(t, 2, got.of("k1:c"))
	for _, id := range []string{"k1:a", "k2:b", "k2:d"} {
		require.Equal(t, 1, got.of(id), "%s was done with the batch", id)
	}
	require.Len(t, dead.All(), 2)
	for _, published := range dead.All() {
		want := map[string]string{"poison": "4", "fatal": "1"}[string(published.Value)]
		require.Equal(t, want, published.Header("dlt-attempts"))
	}
	requireKeyOrder(t, got.all()[1:], "k1:poison", "k1:c")
}

func TestHandleBatch_LeavesAMessageUnfinishedWithItsFollowers(t *testing.T) {
	t.Parallel()
	dead, done := &broker{}, make(deliveries, 5)
	var got calls
	var batch *claimed
	given := make(chan struct{})
	f, _ := batchRouter(t, dead, done, func(b *record.Batch) error {
		if got.note(b); len(b.Messages) > 1 {
			return errDown
		}
		if b.Messages[0].UUID == "k1:b" {
			<-given
			batch.lose()
			<-b.Context().Done()
			return b.Context().Err()
		}
		return nil
	}, consumer.WithParallel(1))
	batch = f.give("k1:a", "k1:b", "k1:c", "k1:d")
	close(given)
	told := done.outcomes(t, 4)
	require.Equal(t, consumer.OutcomeDone, told["k1:a"].Outcome)
	for _, id := range []string{"k1:b", "k1:c", "k1:d"} {
		require.Equal(t, consumer.OutcomeUnfinished, told[id].Outcome, id)
		require.ErrorIs(t, told[id].Err, consumer.ErrUnfinished)
	}
	require.Equal(t, []string{"k1:b", "k1:c", "k1:d"}, batch.refused())
	require.Zero(t, got.of("k1:c")-1, "a follower was handled")
	require.Empty(t, dead.All(), "a lost partition is no failure")
}

func TestHandleBatch_DoesNotOvertakeAMessageThatIsLeft(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 4)
	var got calls
	f, _ := batchRouter(t, &broker{}, done, func(b *record.Batch) error {
		if got.note(b); len(b.Messages) > 1 {
			return errDown
		}
		if b.Messages[0].UUID == "k1:a" {
			return consumer.ErrUnfinished
		}
		return nil
	})
	batch := f.give("k1:a", "k1:b", "k1:c", "k2:d")
	told := done.outcomes(t, 4)
	require.Equal(t, consumer.OutcomeDone, told["k2:d"].Outcome)
	require.Equal(t, []string{"k1:a", "k1:b", "k1:c"}, batch.refused())
	require.Equal(t, 1, got.of("k1:b"), "with the batch, and not again")
}

func TestHandleBatch_ALostClaimIsNeitherSuccessNorFailure(t *testing.T) {
	t.Parallel()
	dead, done := &broker{}, make(deliveries, 2)
	entered := make(chan struct{})
	f, _ := batchRouter(t, dead, done, func(b *record.Batch) error {
		close(entered)
		<-b.Messages[1].Context().Done() // ends with the batch's
		return fmt.Errorf("query: %w", b.Context().Err())
	})
	batch := f.give("k1:a", "k2:b")
	<-entered
	batch.lose()
	for id, d := range done.outcomes(t, 2) {
		require.Equal(t, consumer.OutcomeUnfinished, d.Outcome, id)
	}
	require.Len(t, batch.refused(), 2)
	require.Empty(t, dead.All())
}

func TestHandleBatch_TimeoutAndPanicBreakTheBatchOnly(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*record.Batch) error{
		"panic": func(*record.Batch) error { panic("boom") },
		"timeout": func(b *record.Batch) error {
			<-b.Context().Done()
			return &consumer.BatchError{Failed: map[int]error{0: b.Context().Err(), 1: b.Context().Err(), 2: b.Context().Err()}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dead, done := &broker{}, make(deliveries, 3)
			var got calls
			f, _ := batchRouter(t, dead, done, func(b *record.Batch) error {
				if got.note(b); len(b.Messages) > 1 {
					return fail(b)
				}
				return nil
			}, consumer.WithTimeout(20*time.Millisecond))
			batch := f.give("k1:a", "k2:b", "k3:c")
			for id, d := range done.outcomes(t, 3) {
				require.Equal(t, consumer.OutcomeDone, d.Outcome, id)
				require.Equal(t, 1, d.Attempts, "the batch's failure is not the message's")
			}
			require.Len(t, batch.acked(), 3)
			require.Empty(t, dead.All())
		})
	}
}

func TestHandleBatch_FailuresAloneBecomeTheSameDeadLettersAsWithoutBatches(t *testing.T) {
	t.Parallel()
	dead, done := &broker{}, make(deliveries, 3)
	var panics sync.Map
	r := newRouter(t, dead, consumer.Config{Retry: consumer.FixedBackOff(time.Millisecond, 1), Hooks: consumer.Hooks{
		Delivered: func(d consumer.Delivery) { done <- d },
		Panicked:  func(d consumer.Delivery, _ *consumer.PanicError) { panics.Store(d.MessageID, true) },
	}})
	f := newBatchFeed()
	r.HandleBatch("views", topic, f, func(b *record.Batch) error {
		if len(b.Messages) > 1 {
			return errDown
		}
		switch b.Messages[0].UUID {
		case "k1:panic":
			panic("boom")
		case "k2:timeout":
			<-b.Context().Done()
			return b.Context().Err()
		}
		return fmt.Errorf("%w: no order", consumer.ErrDecode)
	}, consumer.WithTimeout(500*time.Millisecond))
	start(t, r)
	f.give("k1:panic", "k2:timeout", "k3:decode")
	told := done.outcomes(t, 3)
	require.Equal(t, deadletter.DispositionPanic, told["k1:panic"].Disposition)
	require.Equal(t, deadletter.DispositionTimeout, told["k2:timeout"].Disposition)
	require.Equal(t, deadletter.DispositionDecode, told["k3:decode"].Disposition)
	_, ok := panics.Load("k1:panic")
	require.True(t, ok)
	require.Len(t, dead.All(), 3)
	for _, published := range dead.All() {
		require.Equal(t, int32(3), published.Partition)
		require.Equal(t, dlt, published.Topic)
	}
}

func TestHandleBatch_SkipsWhatWasReplayedForAnotherGroup(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 2)
	var got calls
	f, _ := batchRouter(t, &broker{}, done, func(b *record.Batch) error {
		got.note(b)
		return nil
	})
	ctx := context.Background()
	msgs := batchMessages(ctx, "k1:a", "k2:b")
	msgs[0].Metadata.Set("dlt-target-group", "sender")
	f.out <- record.NewBatch(ctx, topic, 3, msgs, nil)
	told := done.outcomes(t, 2)
	require.Equal(t, consumer.OutcomeSkipped, told["k1:a"].Outcome)
	require.Equal(t, consumer.OutcomeDone, told["k2:b"].Outcome)
	require.Equal(t, [][]string{{"k2:b"}}, got.all())
}

func TestHandleBatch_BoundsWhatItHandlesAlone(t *testing.T) {
	t.Parallel()
	const n = 40
	done := make(deliveries, n)
	var mu sync.Mutex
	at, most := 0, 0
	count := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		at += by
		most = max(most, at)
	}
	f, _ := batchRouter(t, &broker{}, done, func(b *record.Batch) error {
		if len(b.Messages) > 1 {
			return errDown
		}
		count(1)
		defer count(-1)
		select {
		case <-b.Context().Done():
		case <-time.After(2 * time.Millisecond):
		}
		return nil
	}, consumer.WithParallel(4))
	f.give(ids(n, "k%d:x")...)
	done.outcomes(t, n)
	require.LessOrEqual(t, most, 4)
	require.Greater(t, most, 1, "keys go beside each other")
}

func TestHandleBatch_AStopWaitsForTheBatchAtWork(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 2)
	entered, release := make(chan struct{}), make(chan struct{})
	f, stop := batchRouter(t, &broker{}, done, func(b *record.Batch) error {
		close(entered)
		<-release
		return b.Context().Err()
	})
	batch := f.give("k1:a", "k2:b")
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	<-f.ctx.Done() // the stop has begun
	close(release)
	require.NoError(t, <-stopped)
	require.Len(t, batch.acked(), 2)
	for _, d := range done.outcomes(t, 2) {
		require.Equal(t, consumer.OutcomeDone, d.Outcome)
	}
}

func TestHandleBatch_AStopEndsContextsWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 1)
	r := newRouter(t, &broker{}, consumer.Config{DrainTimeout: 10 * time.Millisecond, Hooks: done.hooks()})
	f := newBatchFeed()
	entered := make(chan struct{})
	r.HandleBatch("views", topic, f, func(b *record.Batch) error {
		close(entered)
		<-b.Context().Done()
		return b.Context().Err()
	})
	stop := start(t, r)
	batch := f.give("k1:a")
	<-entered
	require.NoError(t, stop())
	require.Len(t, batch.refused(), 1)
	require.Equal(t, consumer.OutcomeUnfinished, done.next(t).Outcome)
}

func TestHandleBatch_ASubscriptionThatEndsByItselfIsAnError(t *testing.T) {
	t.Parallel()
	r := newRouter(t, &broker{}, consumer.Config{})
	f := newBatchFeed()
	r.HandleBatch("views", topic, f, func(*record.Batch) error { return nil })
	ended := make(chan error, 1)
	go func() { ended <- r.Run(t.Context()) }()
	<-r.Running()
	f.end()
	require.ErrorIs(t, <-ended, consumer.ErrSubscriptionEnded)
}

func TestHandleBatch_RunsBesideHandlersOfSingleMessages(t *testing.T) {
	t.Parallel()
	done := make(deliveries, 3)
	r := newRouter(t, &broker{}, consumer.Config{Hooks: done.hooks()})
	single, batches := newFeed(), newBatchFeed()
	r.Handle("single", topic, single, succeed)
	r.HandleBatch("batch", topic, batches, func(*record.Batch) error { return nil })
	stop := start(t, r)
	single.give(newRecord(), "x")
	batches.give("k1:a", "k2:b")
	require.Len(t, done.outcomes(t, 3), 3)
	require.NoError(t, stop())
}

func TestTypedBatch_KeepsUndecodableMessagesAndTheirFollowersBack(t *testing.T) {
	t.Parallel()
	dead, done := &broker{}, make(deliveries, 4)
	var mu sync.Mutex
	var got [][]order
	f, _ := batchRouter(t, dead, done, consumer.TypedBatch(consumer.JSON[order], func(_ context.Context, orders []order) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, orders)
		return nil
	}))
	f.give(`k1:{"ID":"1"}`, `k2:{broken`, `k2:{"ID":"3"}`, `k3:{"ID":"4"}`)
	told := done.outcomes(t, 4)
	require.Equal(t, deadletter.DispositionDecode, told["k2:{broken"].Disposition)
	require.Equal(t, [][]order{{{ID: "1"}, {ID: "4"}}, {{ID: "3"}}}, got)
	require.Len(t, dead.All(), 1)
}

func TestTypedBatch_PassesFailuresOfValuesOn(t *testing.T) {
	t.Parallel()
	fn := consumer.TypedBatch(consumer.JSON[order], func(_ context.Context, orders []order) error {
		require.Len(t, orders, 2)
		return &consumer.BatchError{Failed: map[int]error{1: errDown}}
	})
	err := fn(record.NewBatch(t.Context(), topic, 3, batchMessages(t.Context(), `k1:{broken`, `k2:{"ID":"2"}`, `k3:{"ID":"3"}`), nil))
	var failed *consumer.BatchError
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Failed, 2)
	require.ErrorIs(t, failed.Failed[0], consumer.ErrDecode)
	require.ErrorIs(t, failed.Failed[2], errDown)
}

func TestHandle_DecodesInsideTheChain(t *testing.T) {
	t.Parallel()
	dead, done := &broker{}, make(deliveries, 2)
	r := newRouter(t, dead, consumer.Config{Hooks: done.hooks()})
	f := newFeed()
	consumer.HandleFunc(r, "ship", topic, f, consumer.JSON[order], func(_ context.Context, o order) error {
		if o.ID != "o-1" {
			return errors.New("wrong order")
		}
		return nil
	}, consumer.WithRetry(consumer.FixedBackOff(0, 0)))
	start(t, r)
	f.give(newRecord(), `{"ID":"o-1"}`)
	require.Equal(t, consumer.OutcomeDone, done.next(t).Outcome)
	f.give(newRecord(), `{broken`)
	require.Equal(t, deadletter.DispositionDecode, done.next(t).Disposition)
}
