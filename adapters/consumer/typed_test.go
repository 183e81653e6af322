package consumer_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
)

type order struct{ ID string }

func TestTyped_HandsOverTheDecodedValue(t *testing.T) {
	t.Parallel()
	var got order
	h := consumer.Typed(consumer.JSON[order], func(_ context.Context, o order) error { got = o; return nil })
	require.NoError(t, h(message.NewMessage("1", []byte(`{"ID":"o-1"}`))))
	require.Equal(t, order{ID: "o-1"}, got)
}

func TestTyped_ClassifiesDecodeErrors(t *testing.T) {
	t.Parallel()
	refuse := func(err error) func(*message.Message) (order, error) {
		return func(*message.Message) (order, error) { return order{}, err }
	}
	never := func(context.Context, order) error { panic("called") }
	require.ErrorIs(t, consumer.Typed(refuse(errDown), never)(nil), consumer.ErrDecode)
	require.ErrorIs(t, consumer.Typed(refuse(errDown), never)(nil), errDown)
	require.NotErrorIs(t, consumer.Typed(refuse(fmt.Errorf("v9: %w", consumer.ErrSchema)), never)(nil), consumer.ErrDecode)
	require.Equal(t, consumer.VerdictRetry, consumer.Classify(consumer.Typed(refuse(consumer.Retryable(errDown)), never)(nil)))
	require.ErrorIs(t, consumer.Typed(consumer.JSON[order], never)(message.NewMessage("1", nil)), consumer.ErrDecode)
}
