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

func sessionRoundTrip(t *testing.T, s accessSuite) {
	a := s.account(t)
	v := s.session(t, a)
	require.EqualValues(t, 1, v.Stored(), "Add settles")

	got, err := s.getSession(t, v.ID())
	require.NoError(t, err)
	require.Equal(t, v.State(), got.State())
	require.True(t, got.State().RevokedAt.IsZero())
	require.WithinDuration(t, time.Now(), got.State().CreatedAt, time.Minute)

	view, err := s.Reader.SessionView(t.Context(), v.ID())
	require.NoError(t, err)
	require.Equal(t, app.SessionViewOf(v.State()), view)
	projected, ok := app.ProjectSession(s.Events(t)[1])
	require.True(t, ok)
	require.Equal(t, view, projected)
}

func sessionRefused(t *testing.T, s accessSuite) {
	a := s.account(t)
	token := account.NewToken()
	for want := range 2 {
		v, err := account.Open(a, token, began, life)
		require.NoError(t, err)
		err = s.storeSession(t, v)
		if want == 0 {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, domain.ErrDuplicate)
		}
	}
	err := s.storeSession(t, newSession(t, newAccount(t, "grace@example.org")))
	require.ErrorIs(t, err, domain.ErrReference)
	require.Len(t, s.Events(t), 2)
}

func sessionMissing(t *testing.T, s accessSuite) {
	v := newSession(t, newAccount(t, "ada@example.org"))
	_, err := s.getSession(t, v.ID())
	require.ErrorIs(t, err, domain.ErrNotFound)
	_, err = s.Reader.SessionView(t.Context(), v.ID())
	require.ErrorIs(t, err, domain.ErrNotFound)

	v.Settle(began, began)
	require.NoError(t, v.Revoke(began))
	err = s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return tx.Sessions().Save(ctx, v) })
	require.ErrorIs(t, err, domain.ErrNotFound)
}

func (s accessSuite) revoke(t *testing.T, id account.SessionID) error {
	t.Helper()
	return s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		v, err := tx.Sessions().Get(ctx, id)
		if err != nil {
			return err
		}
		if err := v.Revoke(began.Add(time.Minute)); err != nil {
			return err
		}
		events := sessionEvents(v)
		return errors.Join(tx.Sessions().Save(ctx, v), tx.Record(ctx, events...))
	})
}

func sessionRevoked(t *testing.T, s accessSuite) {
	v := s.session(t, s.account(t))
	require.NoError(t, s.revoke(t, v.ID()))
	got, err := s.getSession(t, v.ID())
	require.NoError(t, err)
	want := v.State()
	want.RevokedAt, want.Version, want.UpdatedAt = began.Add(time.Minute), 2, got.State().UpdatedAt
	require.Equal(t, want, got.State())
	require.False(t, got.State().UpdatedAt.Before(v.State().UpdatedAt))

	view, err := s.Reader.SessionView(t.Context(), v.ID())
	require.NoError(t, err)
	require.True(t, view.Revoked)
	projected, ok := app.ProjectSession(s.Events(t)[2])
	require.True(t, ok)
	require.Equal(t, view, projected)
	require.ErrorIs(t, s.revoke(t, v.ID()), domain.ErrIllegalAct)
}

func sessionStale(t *testing.T, s accessSuite) {
	v := s.session(t, s.account(t))
	require.NoError(t, s.revoke(t, v.ID()))
	require.NoError(t, v.Revoke(began)) // v is still at version 1
	err := s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error { return tx.Sessions().Save(ctx, v) })
	require.ErrorIs(t, err, domain.ErrVersionConflict)
}

func sessionsSwept(t *testing.T, s accessSuite) {
	a := s.account(t)
	var ids []account.SessionID
	for i := range 5 {
		v, err := account.Open(a, account.NewToken(), began, time.Duration(i+1)*time.Hour)
		require.NoError(t, err)
		require.NoError(t, s.storeSession(t, v))
		ids = append(ids, v.ID())
	}
	sweep := func(before time.Time, limit, want int) {
		t.Helper()
		require.NoError(t, s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
			n, err := tx.Sessions().Sweep(ctx, before, limit)
			require.Equal(t, want, n)
			return err
		}))
	}
	left := func(want ...account.SessionID) {
		t.Helper()
		var have []account.SessionID
		for _, id := range ids {
			if _, err := s.getSession(t, id); err == nil {
				have = append(have, id)
			}
		}
		require.Equal(t, want, have)
	}
	sweep(began.Add(time.Hour), 10, 0)
	sweep(began.Add(4*time.Hour), 2, 2)
	left(ids[2:]...)
	sweep(began.Add(4*time.Hour), 2, 1)
	left(ids[3:]...)
	require.Len(t, s.Events(t), 6, "what is over is no news")
}
