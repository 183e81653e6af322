package app_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

func (o *office) resend(ctx context.Context, t *testing.T) app.Resent {
	t.Helper()
	done, err := o.ResendFailedNotifications(ctx, app.ResendFailed{})
	require.NoError(t, err)
	return done
}

func TestResend_SendsWhatHasWaitedLongEnough(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	events := o.failed(t, 2)
	require.Equal(t, app.Resent{}, o.resend(t.Context(), t), "a minute is not over")
	o.clock.pass(time.Minute)
	require.Equal(t, app.Resent{Claimed: 2, Sent: 2}, o.resend(t.Context(), t))
	for _, r := range events {
		s := o.status(t, r)
		require.Equal(t, notification.StatusSent, s.Status)
		require.Equal(t, 2, s.Attempts)
		_, scheduled := o.memory.Scheduled(s.ID)
		require.False(t, scheduled)
	}
	for _, d := range o.gateway.deliveries() {
		require.Equal(t, 2, d.Attempt)
		require.Equal(t, app.IdempotencyKey(d.NotificationID, 1), d.IdempotencyKey, "the first attempt may have arrived: the key stays")
		require.Equal(t, content, d.Content)
	}
	require.Equal(t, app.Resent{}, o.resend(t.Context(), t))
}

func TestResend_WaitsTwiceAsLongEachTimeAndGivesUpAfterFive(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	r := o.failed(t, 1)[0]
	o.gateway.always(errors.New("still busy"))
	for _, wait := range []time.Duration{1, 2, 4, 8} {
		o.clock.pass(wait*time.Minute - time.Second)
		require.Equal(t, app.Resent{}, o.resend(t.Context(), t), "before %d minutes", wait)
		o.clock.pass(time.Second)
		done := o.resend(t.Context(), t)
		require.Equal(t, 1, done.Failed+done.Abandoned)
	}
	s := o.status(t, r)
	require.Equal(t, notification.StatusAbandoned, s.Status)
	require.Equal(t, "gave up after 5 attempts: still busy", s.Reason)
	require.Len(t, o.gateway.deliveries(), 4)
	o.clock.pass(24 * time.Hour)
	require.Equal(t, app.Resent{}, o.resend(t.Context(), t))
}

func TestResend_WorksInBatchesWithABoundOnWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{Batch: 10, Parallel: 3})
	o.failed(t, 25)
	o.clock.pass(time.Minute)
	var under, most atomic.Int64
	o.gateway.mu.Lock()
	o.gateway.answer = func(context.Context, app.Delivery) error {
		defer under.Add(-1)
		for n := under.Add(1); ; {
			seen := most.Load()
			if n <= seen || most.CompareAndSwap(seen, n) {
				return nil
			}
		}
	}
	o.gateway.mu.Unlock()
	require.Equal(t, app.Resent{Claimed: 25, Sent: 25}, o.resend(t.Context(), t))
	require.LessOrEqual(t, most.Load(), int64(3))
	require.Len(t, o.gateway.deliveries(), 25)
}

func TestResend_TwoNodesNeverMakeTheSameAttempt(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{Batch: 5})
	o.failed(t, 40)
	o.clock.pass(time.Minute)
	var nodes sync.WaitGroup
	var sent atomic.Int64
	for range 3 {
		nodes.Go(func() {
			done, err := o.ResendFailedNotifications(t.Context(), app.ResendFailed{})
			if err != nil || done.Lost > 0 {
				t.Errorf("%+v: %v", done, err)
			}
			sent.Add(int64(done.Sent))
		})
	}
	nodes.Wait()
	sent.Add(int64(o.resend(t.Context(), t).Sent)) // what each left to the others
	require.EqualValues(t, 40, sent.Load())
	attempts := map[string]int{}
	for _, d := range o.gateway.deliveries() {
		attempts[fmt.Sprint(d.NotificationID, d.Attempt)]++
	}
	require.Len(t, attempts, 40)
	for at, times := range attempts {
		require.Equal(t, 1, times, at)
	}
}

func TestResend_TakesUpWhatADeadNodeHadClaimed(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	r := o.failed(t, 1)[0]
	o.clock.pass(time.Minute)
	require.NoError(t, o.memory.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		_, err := tx.Claims().Claim(ctx, app.ClaimQuery{Limit: 1, Lease: 2 * time.Minute}) // and dies
		return err
	}))
	o.clock.pass(2*time.Minute - time.Second)
	require.Equal(t, app.Resent{}, o.resend(t.Context(), t))
	o.clock.pass(time.Second)
	require.Equal(t, app.Resent{Claimed: 1, Sent: 1}, o.resend(t.Context(), t))
	require.Equal(t, 3, o.gateway.deliveries()[0].Attempt)
	require.Equal(t, 2, o.status(t, r).Attempts, "nobody knows of the attempt between")
}

func TestResend_ALateAnswerChangesNothing(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	r := o.failed(t, 1)[0]
	o.clock.pass(time.Minute)
	o.gateway.mu.Lock()
	o.gateway.answer = func(ctx context.Context, d app.Delivery) error {
		if d.Attempt == 2 { // while it hangs, its claim runs out and another node is faster
			o.clock.pass(3 * time.Minute)
			require.Equal(t, app.Resent{Claimed: 1, Failed: 1}, o.resend(context.WithoutCancel(ctx), t))
			return nil
		}
		return errors.New("busy")
	}
	o.gateway.mu.Unlock()
	require.Equal(t, app.Resent{Claimed: 1, Lost: 1}, o.resend(t.Context(), t))
	s := o.status(t, r)
	require.Equal(t, notification.StatusFailed, s.Status)
	require.Equal(t, 2, s.Attempts)
	wait, _ := o.memory.Scheduled(s.ID)
	require.Equal(t, 2*time.Minute, wait)
}

func TestResend_AnUnavailableGatewayUsesUpNoAttempt(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{Batch: 10, Parallel: 1})
	events := o.failed(t, 3)
	o.clock.pass(time.Minute)
	o.gateway.always(fmt.Errorf("%w: breaker is open", app.ErrUnavailable))
	done, err := o.ResendFailedNotifications(t.Context(), app.ResendFailed{})
	require.ErrorIs(t, err, app.ErrUnavailable)
	require.Equal(t, app.Resent{Claimed: 3, Released: 3}, done)
	require.Len(t, o.gateway.deliveries(), 1, "the first answer speaks for all")
	for _, r := range events {
		require.Equal(t, 1, o.status(t, r).Attempts)
	}
	o.gateway.always(nil)
	o.clock.pass(time.Minute)
	require.Equal(t, app.Resent{Claimed: 3, Sent: 3}, o.resend(t.Context(), t))
}

func TestResend_WaitingForTheGatewayIsNoAttempt(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	r := o.failed(t, 1)[0]
	o.clock.pass(time.Minute)
	o.gateway.always(errors.Join(app.ErrNotNow, later{errors.New("429")}))
	require.Equal(t, app.Resent{Claimed: 1, Released: 1}, o.resend(t.Context(), t))
	require.Equal(t, 1, o.status(t, r).Attempts)
	wait, _ := o.memory.Scheduled(notification.ID(r.AggregateID))
	require.Equal(t, 10*time.Minute, wait, "as long as it asked for")
}

func TestResend_FinishesWhatItBeganAndGivesTheRestBackWhenToldToStop(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{Batch: 10, Parallel: 2})
	o.failed(t, 10)
	o.clock.pass(time.Minute)
	ctx, stop := context.WithCancel(t.Context())
	var both sync.WaitGroup
	both.Add(2)
	o.gateway.mu.Lock()
	o.gateway.answer = func(ctx context.Context, _ app.Delivery) error {
		both.Done()
		both.Wait()
		stop()
		return ctx.Err() // alive: what has begun is finished
	}
	o.gateway.mu.Unlock()
	require.Equal(t, app.Resent{Claimed: 10, Sent: 2, Released: 8}, o.resend(ctx, t))
	o.gateway.always(nil)
	require.Equal(t, app.Resent{Claimed: 8, Sent: 8}, o.resend(t.Context(), t), "at once, not after the lease")
}

func TestResend_TheGuardStandsBeforeEveryTransaction(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	r := o.failed(t, 1)[0]
	o.clock.pass(time.Minute)
	lockLost := errors.New("lock lost")
	allowed := 0
	guard := func(context.Context, app.Tx) error {
		if allowed--; allowed < 0 {
			return lockLost
		}
		return nil
	}
	_, err := o.ResendFailedNotifications(t.Context(), app.ResendFailed{Guard: guard, Fence: 7})
	require.ErrorIs(t, err, lockLost)
	require.Empty(t, o.gateway.deliveries())

	allowed = 1 // the claim, and not the record
	_, err = o.ResendFailedNotifications(t.Context(), app.ResendFailed{Guard: guard, Fence: 7})
	require.ErrorIs(t, err, lockLost)
	require.Len(t, o.gateway.deliveries(), 1)
	require.Equal(t, notification.StatusFailed, o.status(t, r).Status, "what a late holder found is not written")
	require.EqualValues(t, 7, o.memory.Fence(notification.ID(r.AggregateID)))

	o.clock.pass(2 * time.Minute)
	require.Equal(t, app.Resent{Claimed: 1, Sent: 1}, o.resend(t.Context(), t))
	require.Equal(t, o.gateway.deliveries()[0].IdempotencyKey, o.gateway.deliveries()[1].IdempotencyKey, "the gateway delivers it once")
}

func TestResend_DropsWhatIsOver(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	r := o.requested(t)
	gone, sent := notification.ID(app.NewID()), notification.ID(r.AggregateID)
	require.NoError(t, o.app.MarkSent(t.Context(), string(sent)))
	require.NoError(t, o.memory.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		return errors.Join(tx.Claims().Schedule(ctx, gone, app.Retry{}), tx.Claims().Schedule(ctx, sent, app.Retry{}))
	}))
	require.Equal(t, app.Resent{Claimed: 2, Lost: 2}, o.resend(t.Context(), t))
	require.Empty(t, o.gateway.deliveries())
	require.Equal(t, app.Resent{}, o.resend(t.Context(), t))
}

func TestAbandon_EndsTheWaitForAnotherAttempt(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	r := o.failed(t, 1)[0]
	require.NoError(t, o.app.AbandonNotification(t.Context(), r.AggregateID, "asked to"))
	_, scheduled := o.memory.Scheduled(notification.ID(r.AggregateID))
	require.False(t, scheduled)
}

// traces counts the spans of each trace, as a tracer does.
type traces struct{ continued sync.Map }

type spanKey struct{}

func (c *traces) Continue(ctx context.Context, parent string) context.Context {
	c.continued.Store(parent, true)
	return context.WithValue(ctx, spanKey{}, parent)
}

func (*traces) Traceparent(ctx context.Context) string {
	parent, _ := ctx.Value(spanKey{}).(string)
	return parent
}

func TestResend_GoesOnWithTheTraceOfTheNotification(t *testing.T) {
	t.Parallel()
	tracer := &traces{}
	o := newOffice(t, app.SenderConfig{Tracer: tracer})
	r := o.requested(t)
	o.gateway.always(errors.New("busy"))
	ctx := app.WithTrace(tracer.Continue(t.Context(), "of the request"), domain.Trace{CorrelationID: "order-7", CausationID: r.ID})
	require.True(t, o.send(ctx, t, r))
	o.gateway.always(nil)
	o.clock.pass(time.Minute)
	require.Equal(t, 1, o.resend(tracer.Continue(t.Context(), "of the job"), t).Sent)

	events := o.memory.Events()
	require.Equal(t, domain.Trace{Parent: "of the request", CorrelationID: "order-7", CausationID: r.ID}, events[len(events)-1].Trace)
}

// A recipient whose attempts hang holds up one worker, not the batch.
func TestResend_OneThatHangsDelaysOnlyItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, app.SenderConfig{Batch: 10, Parallel: 2})
		slow := o.failed(t, 9)[0]
		o.clock.pass(time.Minute)
		var quick atomic.Int64
		o.gateway.mu.Lock()
		o.gateway.answer = func(ctx context.Context, d app.Delivery) error {
			if string(d.NotificationID) != slow.AggregateID {
				quick.Add(1)
				return nil
			}
			<-ctx.Done()
			if quick.Load() != 8 {
				t.Errorf("%d others were sent meanwhile", quick.Load())
			}
			return ctx.Err()
		}
		o.gateway.mu.Unlock()
		require.Equal(t, app.Resent{Claimed: 9, Sent: 8, Failed: 1}, o.resend(t.Context(), t))
	})
}
