package gateway_test

import (
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/app"
)

func faulty(t *testing.T, faults gateway.Faults, cfg gateway.Config) (*gateway.Gateway, *gateway.FakeServer) {
	t.Helper()
	fake := gateway.NewFakeServer()
	fake.Fail(faults)
	s := httptest.NewServer(fake)
	t.Cleanup(s.Close)
	cfg.URL = s.URL
	return dial(t, cfg), fake
}

func TestBreaker_OpensWhenManyRecipientsFailAndClosesAfterOneSuccess(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var changes []string
	g, fake := faulty(t, gateway.Faults{ErrorRate: 1}, gateway.Config{BreakAfter: 3, BreakFor: 50 * time.Millisecond, BreakerChanged: func(from, to string) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, from+" > "+to)
	}})
	for i := range 3 {
		require.NotErrorIs(t, g.Send(t.Context(), delivery(fmt.Sprint(i))), app.ErrUnavailable)
	}
	err := g.Send(t.Context(), delivery("next"))
	require.ErrorIs(t, err, app.ErrUnavailable)
	require.Equal(t, 50*time.Millisecond, app.RetryAfter(err))
	require.Len(t, fake.Requests(), 3, "an open breaker sends nothing")

	fake.Fail(gateway.Faults{})
	require.Eventually(t, func() bool { return g.Send(t.Context(), delivery("next")) == nil }, 2*time.Minute, 10*time.Millisecond)
	require.NoError(t, g.Send(t.Context(), delivery("other")))
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"closed > open", "open > half-open", "half-open > closed"}, changes)
}

func TestBreaker_StaysClosedForOnePoisonedRecipient(t *testing.T) {
	t.Parallel()
	g, _ := faulty(t, gateway.Faults{Poison: map[string]gateway.Poison{"poison": {Status: 500}}}, gateway.Config{BreakAfter: 2})
	for range 20 {
		require.NotErrorIs(t, g.Send(t.Context(), delivery("poison")), app.ErrUnavailable)
	}
	require.NoError(t, g.Send(t.Context(), delivery("ada")))
}

func TestBreaker_TakesARefusalForAGatewayAtWork(t *testing.T) {
	t.Parallel()
	poison := map[string]gateway.Poison{}
	for i := range 10 {
		poison[fmt.Sprint(i)] = gateway.Poison{Status: 422}
	}
	g, _ := faulty(t, gateway.Faults{Poison: poison}, gateway.Config{BreakAfter: 2})
	for i := range 10 {
		require.ErrorIs(t, g.Send(t.Context(), delivery(fmt.Sprint(i))), app.ErrRejected)
	}
}

func TestBreaker_OpensForAGatewayThatHangs(t *testing.T) {
	t.Parallel()
	g, fake := faulty(t, gateway.Faults{Latency: time.Hour}, gateway.Config{BreakAfter: 2, BreakFor: time.Hour, Timeout: 20 * time.Millisecond})
	for i := range 2 {
		require.Error(t, g.Send(t.Context(), delivery(fmt.Sprint(i))))
	}
	require.ErrorIs(t, g.Send(t.Context(), delivery("next")), app.ErrUnavailable)
	fake.Fail(gateway.Faults{})
}

func TestBreaker_CanBeOff(t *testing.T) {
	t.Parallel()
	g, fake := faulty(t, gateway.Faults{Down: true}, gateway.Config{BreakAfter: -1})
	for i := range 20 {
		require.NotErrorIs(t, g.Send(t.Context(), delivery(fmt.Sprint(i))), app.ErrUnavailable)
	}
	require.Empty(t, fake.Deliveries())
}
