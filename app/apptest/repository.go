package apptest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

func addStoresWhatGetReturns(t *testing.T, s suite) {
	n := s.add(t)
	require.EqualValues(t, 1, n.Stored(), "Add settles")
	require.Empty(t, n.Pending())

	got, err := s.get(t, n.ID())
	require.NoError(t, err)
	require.Equal(t, n.State(), got.State())
	require.WithinDuration(t, time.Now(), got.State().CreatedAt, time.Minute)
	require.WithinDuration(t, time.Now(), got.State().UpdatedAt, time.Minute)
	require.Equal(t, time.UTC, got.State().CreatedAt.Location())
}

func addRefusesATakenID(t *testing.T, s suite) {
	n := s.add(t)
	again, err := notification.Request(n.ID(), n.State().Content, began)
	require.NoError(t, err)
	err = s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		return tx.Notifications().Add(ctx, again)
	})
	require.ErrorIs(t, err, domain.ErrDuplicate)
	require.Len(t, s.Events(t), 1)
}

func missing(t *testing.T, s suite) {
	n := newNotification(t)
	_, err := s.get(t, n.ID())
	require.ErrorIs(t, err, domain.ErrNotFound)
	_, err = s.Reader.NotificationStatus(t.Context(), n.ID())
	require.ErrorIs(t, err, domain.ErrNotFound)

	n.Settle(began, began)
	require.NoError(t, n.MarkSent(began))
	err = s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		return tx.Notifications().Save(ctx, n)
	})
	require.ErrorIs(t, err, domain.ErrNotFound)
}

func saveCountsEvents(t *testing.T, s suite) {
	n := s.add(t)
	created := n.State()
	require.NoError(t, s.change(t.Context(), n.ID(), func(n *notification.Notification) error {
		if err := n.MarkFailed("no route", began.Add(time.Second)); err != nil {
			return err
		}
		return n.Abandon("gave up", began.Add(2*time.Second))
	}))

	got, err := s.get(t, n.ID())
	require.NoError(t, err)
	state := got.State()
	require.EqualValues(t, 3, state.Version, "one version for each event, also for two of one save")
	require.Equal(t, notification.StatusAbandoned, state.Status)
	require.Equal(t, "gave up", state.Reason)
	require.Equal(t, 1, state.Attempts)
	require.Equal(t, began.Add(2*time.Second), state.ChangedAt)
	require.Equal(t, created.RequestedAt, state.RequestedAt)
	require.Equal(t, created.Content, state.Content)
	require.Equal(t, created.CreatedAt, state.CreatedAt, "the time of creation never changes")
	require.False(t, state.UpdatedAt.Before(created.UpdatedAt))

	events := s.Events(t)
	require.Len(t, events, 3)
	for i, e := range events {
		require.EqualValues(t, i+1, e.AggregateVersion)
		require.Equal(t, string(n.ID()), e.AggregateID)
		require.Equal(t, "corr", e.Trace.CorrelationID)
		require.Equal(t, "cause", e.Trace.CausationID)
	}
	folded, err := notification.FromHistory(n.ID(), []domain.Event{events[0].Event, events[1].Event, events[2].Event})
	require.NoError(t, err)
	want := state
	want.CreatedAt, want.UpdatedAt = time.Time{}, time.Time{}
	require.Equal(t, want, folded.State(), "the recorded events fold to the stored row")
}

func saveRefusesStale(t *testing.T, s suite) {
	n := s.add(t)
	require.NoError(t, s.change(t.Context(), n.ID(), func(n *notification.Notification) error {
		return n.MarkFailed("no route", began)
	}))

	require.NoError(t, n.Abandon("stale", began)) // n is still at version 1
	events := envelopes(n)
	err := s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		if err := tx.Record(ctx, events...); err != nil {
			return err
		}
		return tx.Notifications().Save(ctx, n)
	})
	require.ErrorIs(t, err, domain.ErrVersionConflict)
	require.Len(t, s.Events(t), 2)
	stored, err := s.get(t, n.ID())
	require.NoError(t, err)
	require.Equal(t, notification.StatusFailed, stored.Status())
}

func saveRefusesInterleaved(t *testing.T, s suite) {
	n := s.add(t)
	outside := t.Context()
	err := s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		mine, err := tx.Notifications().Get(ctx, n.ID())
		if err != nil {
			return err
		}
		if err := s.change(outside, n.ID(), markSent); err != nil { // another transaction
			return err
		}
		if err := mine.Abandon("too late", began); err != nil {
			return err
		}
		return tx.Notifications().Save(ctx, mine)
	})
	require.ErrorIs(t, err, domain.ErrVersionConflict)
	stored, err := s.get(t, n.ID())
	require.NoError(t, err)
	require.Equal(t, notification.StatusSent, stored.Status())
}

func readerSeesCommitted(t *testing.T, s suite) {
	n := s.add(t)
	outside := t.Context()
	require.NoError(t, s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		mine, err := tx.Notifications().Get(ctx, n.ID())
		if err != nil {
			return err
		}
		if err := markSent(mine); err != nil {
			return err
		}
		if err := tx.Notifications().Save(ctx, mine); err != nil {
			return err
		}
		status, err := s.Reader.NotificationStatus(outside, n.ID())
		require.Equal(t, app.StatusOf(n.State()), status, "what is not committed is not seen")
		return err
	}))
	status, err := s.Reader.NotificationStatus(t.Context(), n.ID())
	require.NoError(t, err)
	require.Equal(t, notification.StatusSent, status.Status)
	require.EqualValues(t, 2, status.Version)
}

func saveKeepsRead(t *testing.T, s suite) {
	n := s.add(t)
	at := began.Add(time.Hour)
	require.NoError(t, s.change(t.Context(), n.ID(), func(n *notification.Notification) error {
		if err := markSent(n); err != nil {
			return err
		}
		return n.MarkRead(at)
	}))
	got, err := s.get(t, n.ID())
	require.NoError(t, err)
	require.Equal(t, at, got.State().ReadAt)
	status, err := s.Reader.NotificationStatus(t.Context(), n.ID())
	require.NoError(t, err)
	require.Equal(t, app.StatusOf(got.State()), status)
}

func readerLists(t *testing.T, s suite) {
	var want []app.NotificationStatus
	for i, at := range []int{3, 1, 2, 2} { // two of the same instant
		n, err := notification.Request(notification.ID(app.NewID()), notification.Content{
			Recipient: "grace", Channel: notification.Push, Subject: "s", Body: "b",
		}, began.Add(time.Duration(at)*time.Second))
		require.NoError(t, err)
		require.NoError(t, s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
			return addAndRecord(ctx, tx, n)
		}))
		if i == 0 {
			require.NoError(t, s.change(t.Context(), n.ID(), markSent))
			n, err = s.get(t, n.ID())
			require.NoError(t, err)
		}
		want = append(want, app.StatusOf(n.State()))
	}
	s.add(t) // somebody else's
	sortNewest(want)

	got, err := s.Reader.RecipientNotifications(t.Context(), "grace", 10)
	require.NoError(t, err)
	require.Equal(t, want, got)
	got, err = s.Reader.RecipientNotifications(t.Context(), "grace", 3)
	require.NoError(t, err)
	require.Equal(t, want[:3], got)
	got, err = s.Reader.RecipientNotifications(t.Context(), "nobody", 3)
	require.NoError(t, err)
	require.Empty(t, got)
}
