package apptest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

func accountRoundTrip(t *testing.T, s accessSuite) {
	a := newAccount(t, "ada@example.org")
	require.NoError(t, s.storeAccount(t, a))
	require.EqualValues(t, 1, a.Stored(), "Add settles")

	got, err := s.getAccount(t, a.ID())
	require.NoError(t, err)
	require.Equal(t, a.State(), got.State())
	require.WithinDuration(t, time.Now(), got.State().CreatedAt, time.Minute)
	require.WithinDuration(t, time.Now(), got.State().UpdatedAt, time.Minute)
	require.Equal(t, time.UTC, got.State().CreatedAt.Location())

	view, err := s.Reader.AccountView(t.Context(), a.ID())
	require.NoError(t, err)
	require.Equal(t, app.AccountViewOf(a.State()), view)
	c, err := s.Reader.Credentials(t.Context(), "ada@example.org")
	require.NoError(t, err)
	require.Equal(t, app.Credentials{ID: a.ID(), Password: a.State().Password}, c)
}

func accountTaken(t *testing.T, s accessSuite) {
	a := newAccount(t, "ada@example.org")
	require.NoError(t, s.storeAccount(t, a))
	require.ErrorIs(t, s.storeAccount(t, newAccount(t, "ada@example.org")), domain.ErrDuplicate)

	again, err := account.Register(a.ID(), "grace@example.org", "hash", began)
	require.NoError(t, err)
	require.ErrorIs(t, s.storeAccount(t, again), domain.ErrDuplicate)
	require.Len(t, s.Events(t), 1)
}

func accountMissing(t *testing.T, s accessSuite) {
	a := newAccount(t, "ada@example.org")
	_, err := s.getAccount(t, a.ID())
	require.ErrorIs(t, err, domain.ErrNotFound)
	_, err = s.Reader.AccountView(t.Context(), a.ID())
	require.ErrorIs(t, err, domain.ErrNotFound)
	_, err = s.Reader.Credentials(t.Context(), "ada@example.org")
	require.ErrorIs(t, err, domain.ErrNotFound)

	a.Settle(began, began)
	a.RevokeSessions(began)
	err = s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		_, err := tx.Accounts().Hold(ctx, a.ID())
		require.ErrorIs(t, err, domain.ErrNotFound)
		return tx.Accounts().Save(ctx, a)
	})
	require.ErrorIs(t, err, domain.ErrNotFound)
}

func accountSaves(t *testing.T, s accessSuite) {
	a := s.account(t)
	require.NoError(t, s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		mine, err := tx.Accounts().Get(ctx, a.ID())
		if err != nil {
			return err
		}
		mine.RevokeSessions(began.Add(time.Second))
		mine.RevokeSessions(began.Add(2 * time.Second))
		events := accountEvents(mine)
		return errors.Join(tx.Accounts().Save(ctx, mine), tx.Record(ctx, events...))
	}))
	got, err := s.getAccount(t, a.ID())
	require.NoError(t, err)
	state, created := got.State(), a.State()
	require.EqualValues(t, 3, state.Version, "one version for each event, also for two of one save")
	require.EqualValues(t, 3, state.Generation)
	require.Equal(t, began.Add(2*time.Second), state.ChangedAt)
	require.Equal(t, created.CreatedAt, state.CreatedAt, "the time of creation never changes")
	require.Equal(t, created.Email, state.Email)
	require.Equal(t, created.Password, state.Password)
	require.Equal(t, created.RegisteredAt, state.RegisteredAt)
	require.False(t, state.UpdatedAt.Before(created.UpdatedAt))

	events := s.Events(t)
	require.Len(t, events, 3)
	for i, e := range events {
		view, ok := app.ProjectAccount(e)
		require.True(t, ok)
		require.EqualValues(t, i+1, view.Generation)
		require.EqualValues(t, i+1, view.Version)
	}
	last, _ := app.ProjectAccount(events[2])
	require.Equal(t, app.AccountViewOf(state), last, "the last event is the stored row")
}

func accountStale(t *testing.T, s accessSuite) {
	a := s.account(t)
	require.NoError(t, s.renew(t.Context(), a.ID()))
	a.RevokeSessions(began) // a is still at version 1
	events := accountEvents(a)
	err := s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		if err := tx.Record(ctx, events...); err != nil {
			return err
		}
		return tx.Accounts().Save(ctx, a)
	})
	require.ErrorIs(t, err, domain.ErrVersionConflict)
	require.Len(t, s.Events(t), 2)
}

// Either the other one waits for us, or we do not commit. That it commits within
// our transaction and ours commits too is what must not be: our session would
// belong to a generation that was over before.
func accountHeld(t *testing.T, s accessSuite) {
	a := s.account(t)
	outside := t.Context()
	other := make(chan error, 1)
	cutIn := false
	var v *account.Session
	err := s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		mine, err := tx.Accounts().Hold(ctx, a.ID())
		if err != nil {
			return err
		}
		go func() { other <- s.renew(outside, a.ID()) }()
		select {
		case err := <-other:
			cutIn = true
			other <- err
		case <-time.After(500 * time.Millisecond): // it waits, or is slow; either is fine
		}
		v = newSession(t, mine)
		return tx.Sessions().Add(ctx, v)
	})
	require.NoError(t, <-other)
	if cutIn {
		require.ErrorIs(t, err, domain.ErrVersionConflict)
	} else {
		require.NoError(t, err)
		require.EqualValues(t, 1, v.State().Generation)
	}
	got, err := s.getAccount(t, a.ID())
	require.NoError(t, err)
	require.EqualValues(t, 2, got.State().Generation)
}
