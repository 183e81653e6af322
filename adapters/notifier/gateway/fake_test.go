package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/app"
)

func TestFake_DeliversAKeyOnce(t *testing.T) {
	t.Parallel()
	var f gateway.Fake
	for range 3 {
		require.NoError(t, f.Send(t.Context(), app.Delivery{IdempotencyKey: "a"}))
	}
	require.NoError(t, f.Send(t.Context(), app.Delivery{IdempotencyKey: "b"}))
	require.Len(t, f.Delivered(), 2)
	require.Equal(t, 4, f.Attempts())
}

func TestFake_FailsAsItIsTold(t *testing.T) {
	t.Parallel()
	var f gateway.Fake
	passing := errors.New("timeout")
	f.FailWith(func(d app.Delivery) error {
		if d.Recipient == "nobody" {
			return fmt.Errorf("%w: no such recipient", app.ErrRejected)
		}
		return passing
	})
	d := app.Delivery{IdempotencyKey: "a"}
	require.ErrorIs(t, f.Send(t.Context(), d), passing)
	d.Recipient = "nobody"
	require.ErrorIs(t, f.Send(t.Context(), d), app.ErrRejected)
	require.Empty(t, f.Delivered())

	f.FailWith(nil)
	require.NoError(t, f.Send(t.Context(), d))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.Send(ended, app.Delivery{IdempotencyKey: "b"}), context.Canceled)
	require.Equal(t, []app.Delivery{d}, f.Delivered())
}
