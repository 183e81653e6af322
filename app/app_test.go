package app_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

var (
	now     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	content = notification.Content{Recipient: "ada", Channel: notification.SMS, Subject: "Hi", Body: "There"}
)

type world struct {
	*app.App
	memory *apptest.Memory
	views  *apptest.Views
	failed []error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	memory := &apptest.Memory{}
	w := &world{memory: memory, views: &apptest.Views{Reader: memory}}
	a, err := app.New(w.memory, w.memory, w.views, app.Config{
		Now:        func() time.Time { return now },
		ViewFailed: func(_ context.Context, err error) { w.failed = append(w.failed, err) },
	})
	require.NoError(t, err)
	w.App = a
	return w
}

func (w *world) request(t *testing.T) string {
	t.Helper()
	got, err := w.RequestNotification(t.Context(), app.RequestNotification{Content: content})
	require.NoError(t, err)
	return string(got.ID)
}

func TestNew_NamesEveryMissingPort(t *testing.T) {
	t.Parallel()
	_, err := app.New(nil, nil, nil, app.Config{})
	require.ErrorContains(t, err, "uow: is nil\nreader: is nil\nviews: is nil")
}

func TestRequestNotification_RecordsTheEventUnderItsTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := app.WithTrace(t.Context(), domain.Trace{CorrelationID: "corr", CausationID: "cause"})
	got, err := w.RequestNotification(ctx, app.RequestNotification{Content: content})
	require.NoError(t, err)

	events := w.memory.Events()
	require.Len(t, events, 1)
	require.Equal(t, domain.Recorded{
		ID: events[0].ID, AggregateType: "notification", AggregateID: string(got.ID), AggregateVersion: 1, OccurredAt: now,
		Trace: domain.Trace{CorrelationID: "corr", CausationID: "cause"},
		Event: notification.Requested{
			About: notification.About{Recipient: "ada", Channel: notification.SMS, Subject: "Hi", RequestedAt: now}, Body: "There",
		},
	}, events[0])
	require.NotEqual(t, string(got.ID), events[0].ID)
}

func TestRequestNotification_WritesNothingForBadContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.RequestNotification(t.Context(), app.RequestNotification{})
	require.ErrorIs(t, err, domain.ErrInvalid)
	require.Empty(t, w.memory.Events())
}

func TestRequestNotification_IsRepeatableWithAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cmd := app.RequestNotification{Content: content, IdempotencyKey: "order-7"}
	first, err := w.RequestNotification(t.Context(), cmd)
	require.NoError(t, err)
	require.False(t, first.Repeated)

	second, err := w.RequestNotification(t.Context(), cmd)
	require.NoError(t, err)
	require.Equal(t, app.Requested{ID: first.ID, Repeated: true}, second)

	cmd.Body = "something else"
	_, err = w.RequestNotification(t.Context(), cmd)
	require.ErrorIs(t, err, app.ErrKeyReused)
	require.Len(t, w.memory.Events(), 1)
}

func TestMarks_ChangeRowAndHistoryTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.request(t)
	require.NoError(t, w.MarkFailed(t.Context(), id, "no route"))
	require.NoError(t, w.MarkSent(t.Context(), id))
	err := w.AbandonNotification(t.Context(), id, "too late")
	require.ErrorIs(t, err, domain.ErrIllegalAct)

	got, err := w.GetNotification(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, notification.StatusSent, got.Status)
	require.Equal(t, 2, got.Attempts)
	require.EqualValues(t, 3, got.Version)
	require.Len(t, w.memory.Events(), 3)
}

func TestActs_OnWhatDoesNotExistAreNotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []string{app.NewID(), "not an id"} {
		require.ErrorIs(t, w.MarkSent(t.Context(), id), domain.ErrNotFound)
		require.ErrorIs(t, w.MarkFailed(t.Context(), id, "r"), domain.ErrNotFound)
		require.ErrorIs(t, w.AbandonNotification(t.Context(), id, "r"), domain.ErrNotFound)
		_, err := w.GetNotification(t.Context(), id)
		require.ErrorIs(t, err, domain.ErrNotFound)
	}
}

func TestGetNotification_FillsTheViewOnAMiss(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.request(t)
	fromDatabase, err := w.GetNotification(t.Context(), id)
	require.NoError(t, err)
	fromView, err := w.views.NotificationStatus(t.Context(), notification.ID(id))
	require.NoError(t, err)
	require.Equal(t, fromDatabase, fromView)

	fromView.ID, fromView.Subject, fromView.Version = notification.ID(w.request(t)), "only in the view", 9
	w.views.Put(fromView)
	got, err := w.GetNotification(t.Context(), string(fromView.ID))
	require.NoError(t, err)
	require.Equal(t, "only in the view", got.Subject, "a hit does not ask the database")
}

func TestListRecipientNotifications_AnswersFromTheDatabaseWhenTheViewIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.request(t)
	want, err := w.GetNotification(t.Context(), id)
	require.NoError(t, err)
	w.views.Err = errors.New("connection refused")
	got, err := w.ListRecipientNotifications(t.Context(), want.Recipient, 0)
	require.NoError(t, err)
	require.Equal(t, []app.NotificationStatus{want}, got.Notifications)
	require.Equal(t, []error{w.views.Err}, w.failed, "reported once, and the fill is not tried")
}

// What the projection makes of each event is what the database holds after it.
func TestProjectStatus_EqualsTheStoredStateAfterEachEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.request(t)
	steps := []func() error{
		func() error { return nil },
		func() error { return w.MarkFailed(t.Context(), id, "first") },
		func() error { return w.MarkFailed(t.Context(), id, "second") },
		func() error { return w.AbandonNotification(t.Context(), id, "enough") },
	}
	for i, step := range steps {
		require.NoError(t, step())
		want, err := w.memory.NotificationStatus(t.Context(), notification.ID(id))
		require.NoError(t, err)
		got, ok := app.ProjectStatus(w.memory.Events()[i])
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	_, ok := app.ProjectStatus(domain.Recorded{})
	require.False(t, ok)
}

func TestNewID_IsAnIDAndNeverTheSame(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		id, err := notification.ParseID(app.NewID())
		require.NoError(t, err)
		require.False(t, seen[string(id)])
		seen[string(id)] = true
	}
	require.Equal(t, app.IDFor("k"), app.IDFor("k"))
	require.NotEqual(t, app.IDFor("k"), app.IDFor("l"))
	_, err := notification.ParseID(app.IDFor("k"))
	require.NoError(t, err)
}
