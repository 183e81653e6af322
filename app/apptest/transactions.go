package apptest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

var errRefused = errors.New("refused by the test")

func (s suite) requireNothing(t *testing.T, ids ...notification.ID) {
	t.Helper()
	for _, id := range ids {
		_, err := s.get(t, id)
		require.ErrorIs(t, err, domain.ErrNotFound)
	}
	require.Empty(t, s.Events(t))
}

func rollsBackOnError(t *testing.T, s suite) {
	n := newNotification(t)
	err := s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		if err := addAndRecord(ctx, tx, n); err != nil {
			return err
		}
		return errRefused
	})
	require.ErrorIs(t, err, errRefused)
	s.requireNothing(t, n.ID())
}

func rollsBackOnPanic(t *testing.T, s suite) {
	n := newNotification(t)
	require.PanicsWithValue(t, "in the closure", func() {
		_ = s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
			if err := addAndRecord(ctx, tx, n); err != nil {
				return err
			}
			panic("in the closure") //nolint:forbidigo // it is what the test is about
		})
	})
	s.requireNothing(t, n.ID())
}

func rollsBackOnCancel(t *testing.T, s suite) {
	n := newNotification(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.UnitOfWork.Do(ctx, func(ctx context.Context, tx app.Tx) error {
		defer cancel()
		return addAndRecord(ctx, tx, n)
	})
	require.ErrorIs(t, err, context.Canceled)
	s.requireNothing(t, n.ID())
}

func nestedJoins(t *testing.T, s suite) {
	outer, inner := newNotification(t), newNotification(t)
	err := s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		if err := addAndRecord(ctx, tx, outer); err != nil {
			return err
		}
		err := s.UnitOfWork.Do(ctx, func(ctx context.Context, tx app.Tx) error {
			if _, err := tx.Notifications().Get(ctx, outer.ID()); err != nil {
				return err // the inner one sees what the outer one wrote
			}
			return addAndRecord(ctx, tx, inner)
		})
		if err != nil {
			return err
		}
		return errRefused
	})
	require.ErrorIs(t, err, errRefused)
	s.requireNothing(t, outer.ID(), inner.ID())
}

func nestedFailureSticks(t *testing.T, s suite) {
	n := newNotification(t)
	err := s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		if err := addAndRecord(ctx, tx, n); err != nil {
			return err
		}
		_ = s.UnitOfWork.Do(ctx, func(context.Context, app.Tx) error { return errRefused })
		return nil
	})
	require.ErrorIs(t, err, errRefused)
	s.requireNothing(t, n.ID())
}

func twoAggregates(t *testing.T, s suite) {
	first, second := newNotification(t), newNotification(t)
	require.NoError(t, s.UnitOfWork.Do(t.Context(), func(ctx context.Context, tx app.Tx) error {
		return errors.Join(addAndRecord(ctx, tx, first), addAndRecord(ctx, tx, second))
	}))
	for _, n := range []*notification.Notification{first, second} {
		_, err := s.get(t, n.ID())
		require.NoError(t, err)
	}
	require.Len(t, s.Events(t), 2)
}
