package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

var errDown = errors.New("dependency is down")

// failing fails n times, then succeeds, and notes when it was called.
func failing(n int, err error, calls *[]time.Duration) message.HandlerFunc {
	begin := time.Now()
	return func(*message.Message) ([]*message.Message, error) {
		*calls = append(*calls, time.Since(begin))
		if len(*calls) <= n {
			return nil, err
		}
		return nil, nil
	}
}

func TestRetry_WaitsAsThePolicySays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls, told []time.Duration
		retry := consumer.Retry(consumer.Policy{}, consumer.Hooks{Retrying: func(r consumer.RetryInfo) { told = append(told, r.Wait) }})
		_, err := retry(failing(99, errDown, &calls))(message.NewMessage("1", nil))

		var failure *consumer.FailureError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, 4, failure.Attempts)
		require.Equal(t, deadletter.DispositionExhausted, failure.Disposition)
		require.ErrorIs(t, err, errDown)
		const half = 500 * time.Millisecond
		require.Equal(t, []time.Duration{0, half, 2 * half, 3 * half}, calls)
		require.Equal(t, []time.Duration{half, half, half}, told)
	})
}

func TestRetry_SucceedsOnALaterAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls []time.Duration
		_, err := consumer.Retry(consumer.Policy{}, consumer.Hooks{})(failing(3, errDown, &calls))(message.NewMessage("1", nil))
		require.NoError(t, err)
		require.Len(t, calls, 4)
	})
}

func TestRetry_GivesUpAtOnceOnAFatalError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want deadletter.Disposition
	}{
		"decode":     {fmt.Errorf("x: %w", consumer.ErrDecode), deadletter.DispositionDecode},
		"schema":     {fmt.Errorf("x: %w", consumer.ErrSchema), deadletter.DispositionDecode},
		"validation": {fmt.Errorf("x: %w", consumer.ErrValidation), deadletter.DispositionFatal},
		"marked":     {fmt.Errorf("x: %w", consumer.Fatal(errDown)), deadletter.DispositionFatal},
		"outermost":  {consumer.Fatal(consumer.Retryable(errDown)), deadletter.DispositionFatal},
		"panic":      {&consumer.PanicError{Value: "x"}, deadletter.DispositionPanic},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls []time.Duration
			_, err := consumer.Retry(consumer.Policy{}, consumer.Hooks{})(failing(99, c.err, &calls))(message.NewMessage("1", nil))
			var failure *consumer.FailureError
			require.ErrorAs(t, err, &failure)
			require.Equal(t, c.want, failure.Disposition)
			require.Len(t, calls, 1)
		})
	}
}

func TestClassify_RetriesTheRest(t *testing.T) {
	t.Parallel()
	require.Equal(t, consumer.VerdictRetry, consumer.Classify(errDown))
	require.Equal(t, consumer.VerdictRetry, consumer.Classify(consumer.Retryable(consumer.ErrDecode)))
	require.Equal(t, consumer.VerdictRetry, consumer.Classify(consumer.Retryable(consumer.Fatal(errDown))))
	require.NoError(t, consumer.Fatal(nil))
	require.NoError(t, consumer.Retryable(nil))
}

func TestRetry_LeavesTheMessageWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		var calls []time.Duration
		begin := time.Now()
		_, err := consumer.Retry(consumer.Policy{}, consumer.Hooks{})(failing(99, errDown, &calls))(message.NewMessageWithContext(ctx, "1", nil))
		require.ErrorIs(t, err, consumer.ErrUnfinished)
		require.Equal(t, 700*time.Millisecond, time.Since(begin), "the wait ends with the context")
		require.Len(t, calls, 2)
	})
}

func TestRetry_DoesNotCountAFailureUnderAnEndedContext(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"plain": errDown, "context": context.Canceled, "fatal": consumer.ErrDecode} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			_, got := consumer.Retry(consumer.Policy{}, consumer.Hooks{})(func(*message.Message) ([]*message.Message, error) {
				cancel()
				return nil, err
			})(message.NewMessageWithContext(ctx, "1", nil))
			require.ErrorIs(t, got, consumer.ErrUnfinished)
		})
	}
}

func TestTimeout_EndsTheAttemptAndNotTheMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		chain := consumer.Retry(consumer.FixedBackOff(time.Second, 1), consumer.Hooks{})(
			consumer.Timeout(10 * time.Second)(func(m *message.Message) ([]*message.Message, error) {
				if m.Context().Err() != nil {
					return nil, consumer.Fatal(errors.New("dead on arrival"))
				}
				<-m.Context().Done()
				return nil, m.Context().Err()
			}))
		msg := message.NewMessageWithContext(t.Context(), "1", nil)
		begin := time.Now()
		_, err := chain(msg)
		var failure *consumer.FailureError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, deadletter.DispositionTimeout, failure.Disposition)
		require.Equal(t, 2, failure.Attempts)
		require.Equal(t, 21*time.Second, time.Since(begin))
		require.ErrorIs(t, err, consumer.ErrTimeout)
		require.NoError(t, msg.Context().Err())
	})
}

func TestTimeout_RestoresTheContext(t *testing.T) {
	t.Parallel()
	msg := message.NewMessageWithContext(t.Context(), "1", nil)
	_, err := consumer.Timeout(time.Hour)(func(*message.Message) ([]*message.Message, error) { return nil, nil })(msg)
	require.NoError(t, err)
	require.Equal(t, t.Context(), msg.Context())
}

func TestRecover_KeepsTheStackOfAPanic(t *testing.T) {
	t.Parallel()
	var told *consumer.PanicError
	hooks := consumer.Hooks{Panicked: func(_ consumer.Delivery, p *consumer.PanicError) { told = p }}
	_, err := consumer.Recover(hooks)(func(*message.Message) ([]*message.Message, error) {
		var m map[string]int
		m["boom"] = 1 //nolint:staticcheck // it is what panics
		return nil, nil
	})(message.NewMessage("1", nil))
	var p *consumer.PanicError
	require.ErrorAs(t, err, &p)
	require.Same(t, p, told)
	require.ErrorContains(t, err, "assignment to entry in nil map")
	require.Contains(t, string(p.Stack), "retry_test.go")
}
