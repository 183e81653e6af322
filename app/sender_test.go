package app_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// scripted is a gateway that answers as it is told to and remembers what it got.
type scripted struct {
	mu     sync.Mutex
	answer func(context.Context, app.Delivery) error
	got    []app.Delivery
}

func (g *scripted) Send(ctx context.Context, d app.Delivery) error {
	g.mu.Lock()
	g.got = append(g.got, d)
	answer := g.answer
	g.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, d)
}

func (g *scripted) always(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = func(context.Context, app.Delivery) error { return err }
}

func (g *scripted) deliveries() []app.Delivery {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]app.Delivery(nil), g.got...)
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// office is a sender over storage in memory.
type office struct {
	*app.Sender
	app     *app.App
	memory  *apptest.Memory
	gateway *scripted
	clock   *clock
}

func newOffice(t *testing.T, cfg app.SenderConfig) *office {
	t.Helper()
	o := &office{clock: &clock{now: now}, gateway: &scripted{}}
	o.memory = &apptest.Memory{Now: o.clock.Now}
	cfg.Now = o.clock.Now
	var err error
	o.Sender, err = app.NewSender(o.memory, o.memory, o.gateway, cfg)
	require.NoError(t, err)
	o.app, err = app.New(o.memory, o.memory, &apptest.Views{Reader: o.memory}, app.Config{Now: o.clock.Now})
	require.NoError(t, err)
	return o
}

// requested stores a new notification and returns its event.
func (o *office) requested(t *testing.T) domain.Recorded {
	t.Helper()
	_, err := o.app.RequestNotification(t.Context(), app.RequestNotification{Content: content})
	require.NoError(t, err)
	events := o.memory.Events()
	return events[len(events)-1]
}

// send handles one event as the consumer group does.
func (o *office) send(ctx context.Context, t *testing.T, r domain.Recorded) bool {
	t.Helper()
	at, err := o.SendRequested(ctx, r)
	require.NoError(t, err)
	recorded, err := o.RecordAttempt(ctx, at)
	require.NoError(t, err)
	return recorded
}

func (o *office) status(t *testing.T, r domain.Recorded) app.NotificationStatus {
	t.Helper()
	s, err := o.memory.NotificationStatus(t.Context(), notification.ID(r.AggregateID))
	require.NoError(t, err)
	return s
}

func (o *office) failed(t *testing.T, count int) []domain.Recorded {
	t.Helper()
	o.gateway.always(errors.New("busy"))
	events := make([]domain.Recorded, count)
	for i := range events {
		events[i] = o.requested(t)
		require.True(t, o.send(t.Context(), t, events[i]))
	}
	o.gateway.always(nil)
	o.gateway.mu.Lock()
	o.gateway.got = nil
	o.gateway.mu.Unlock()
	return events
}

type later struct{ error }

func (later) RetryAfter() time.Duration { return 10 * time.Minute }

func TestSendRequested_SendsOnceAndRecordsIt(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	r := o.requested(t)
	require.True(t, o.send(t.Context(), t, r))
	require.Equal(t, notification.StatusSent, o.status(t, r).Status)
	require.Equal(t, []app.Delivery{{
		IdempotencyKey: "notification-" + r.AggregateID + "-1", NotificationID: notification.ID(r.AggregateID), Attempt: 1, Content: content,
	}}, o.gateway.deliveries())

	require.False(t, o.send(t.Context(), t, r), "the event comes again")
	require.Len(t, o.gateway.deliveries(), 1)
	require.Len(t, o.memory.Events(), 2)
}

func TestSendRequested_LeavesOtherEventsAndStatesAlone(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	abandoned := o.requested(t)
	require.NoError(t, o.app.AbandonNotification(t.Context(), abandoned.AggregateID, "asked to"))
	unknown := abandoned
	unknown.AggregateID = app.NewID()
	for _, r := range append(o.memory.Events(), unknown, domain.Recorded{}) {
		require.False(t, o.send(t.Context(), t, r))
	}
	require.Empty(t, o.gateway.deliveries())
}

func TestSendRequested_TurnsEachAnswerIntoItsAct(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer error
		status notification.Status
		wait   time.Duration // until the next attempt; 0 for none
		key    int           // of the next attempt
	}{
		"taken":     {nil, notification.StatusSent, 0, 0},
		"rejected":  {fmt.Errorf("%w: no such number", app.ErrRejected), notification.StatusAbandoned, 0, 0},
		"busy":      {errors.New("500"), notification.StatusFailed, time.Minute, 1},
		"asks":      {later{errors.New("slow down")}, notification.StatusFailed, 10 * time.Minute, 1},
		"not now":   {fmt.Errorf("429: %w", app.ErrNotNow), notification.StatusRequested, time.Minute, 1},
		"key spent": {fmt.Errorf("500: %w", app.ErrKeySpent), notification.StatusFailed, time.Minute, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, app.SenderConfig{})
			r := o.requested(t)
			o.gateway.always(test.answer)
			require.True(t, o.send(t.Context(), t, r))
			require.Equal(t, test.status, o.status(t, r).Status)
			wait, scheduled := o.memory.Scheduled(notification.ID(r.AggregateID))
			require.Equal(t, test.wait > 0, scheduled)
			if !scheduled {
				return
			}
			require.Equal(t, test.wait, wait)
			o.clock.pass(wait)
			o.gateway.always(nil)
			_, err := o.ResendFailedNotifications(t.Context(), app.ResendFailed{})
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("notification-%s-%d", r.AggregateID, test.key), o.gateway.deliveries()[1].IdempotencyKey)
			require.Equal(t, notification.StatusSent, o.status(t, r).Status)
		})
	}
}

func TestSendRequested_SaysNothingAboutTheNotificationWhenItCouldNotTry(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	r := o.requested(t)
	o.gateway.always(fmt.Errorf("%w: connection refused", app.ErrUnavailable))
	_, err := o.SendRequested(t.Context(), r)
	require.ErrorIs(t, err, app.ErrUnavailable)

	ctx, cancel := context.WithCancel(t.Context())
	o.gateway.mu.Lock()
	o.gateway.answer = func(ctx context.Context, _ app.Delivery) error { cancel(); <-ctx.Done(); return ctx.Err() }
	o.gateway.mu.Unlock()
	_, err = o.SendRequested(ctx, r)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, notification.StatusRequested, o.status(t, r).Status)
	require.Len(t, o.memory.Events(), 1)
}

func TestSendRequested_AnAttemptThatTakesTooLongHasFailed(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{Timeout: 20 * time.Millisecond})
	r := o.requested(t)
	o.gateway.mu.Lock()
	o.gateway.answer = func(ctx context.Context, _ app.Delivery) error { <-ctx.Done(); return ctx.Err() }
	o.gateway.mu.Unlock()
	require.True(t, o.send(t.Context(), t, r))
	require.Equal(t, notification.StatusFailed, o.status(t, r).Status)
}

func TestRecordAttempt_BowsToWhoeverWasFaster(t *testing.T) {
	t.Parallel()
	o := newOffice(t, app.SenderConfig{})
	r := o.requested(t)
	at, err := o.SendRequested(t.Context(), r)
	require.NoError(t, err)
	require.NoError(t, o.app.AbandonNotification(t.Context(), r.AggregateID, "asked to"))
	recorded, err := o.RecordAttempt(t.Context(), at)
	require.NoError(t, err)
	require.False(t, recorded)
	require.Equal(t, notification.StatusAbandoned, o.status(t, r).Status)

	recorded, err = o.RecordAttempt(t.Context(), app.Attempt{})
	require.NoError(t, err)
	require.False(t, recorded)
}

func TestNewSender_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := app.NewSender(nil, nil, nil, app.SenderConfig{Timeout: -1, Batch: -1, Parallel: -1})
	for _, field := range []string{"uow", "reader", "gateway", "Timeout", "Batch", "Parallel"} {
		require.ErrorContains(t, err, field)
	}
	o := newOffice(t, app.SenderConfig{})
	_, err = app.NewSender(o.memory, o.memory, o.gateway, app.SenderConfig{Lease: time.Minute})
	require.ErrorContains(t, err, "Lease must be more than Batch/Parallel times Timeout, which is 1m5s")
}
