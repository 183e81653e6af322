package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
)

func TestFakeServer_DeliversAKeyOnceAndCountsEachOther(t *testing.T) {
	t.Parallel()
	g, fake := faulty(t, gateway.Faults{}, gateway.Config{Traceparent: nil})
	d := delivery("ada")
	for attempt := range 3 {
		d.Attempt = attempt + 1
		require.NoError(t, g.Send(t.Context(), d))
	}
	require.Equal(t, map[notification.ID]int{d.NotificationID: 1}, fake.Deliveries())
	d.IdempotencyKey = "another"
	require.NoError(t, g.Send(t.Context(), d))
	require.Equal(t, map[notification.ID]int{d.NotificationID: 2}, fake.Deliveries(), "a second delivery is seen")

	got := fake.Requests()
	require.Len(t, got, 4)
	require.Equal(t, []bool{true, false, false, true}, []bool{got[0].Delivered, got[1].Delivered, got[2].Delivered, got[3].Delivered})
	d.Body = "something else"
	require.ErrorIs(t, g.Send(t.Context(), d), app.ErrRejected, "the key was used for something else")
}

func TestFakeServer_RemembersFailuresIfTold(t *testing.T) {
	t.Parallel()
	g, fake := faulty(t, gateway.Faults{ErrorRate: 1, Remember: true}, gateway.Config{})
	d := delivery("ada")
	require.NotErrorIs(t, g.Send(t.Context(), d), app.ErrKeySpent, "the first failure may be any")
	fake.Fail(gateway.Faults{})
	require.ErrorIs(t, g.Send(t.Context(), d), app.ErrKeySpent)
	d.IdempotencyKey = app.IdempotencyKey(d.NotificationID, 2)
	require.NoError(t, g.Send(t.Context(), d))
}

func TestFakeServer_FailsTheShareItIsToldTo(t *testing.T) {
	t.Parallel()
	g, fake := faulty(t, gateway.Faults{ErrorRate: 0.5, Seed: 7}, gateway.Config{BreakAfter: -1})
	failed := 0
	for range 200 {
		if g.Send(t.Context(), delivery("ada")) != nil {
			failed++
		}
	}
	require.InDelta(t, 100, failed, 40)
	require.Len(t, fake.Deliveries(), 200-failed)
}

func TestFakeServer_RefusesASecondRequestOfAKeyUnderWay(t *testing.T) {
	t.Parallel()
	g, fake := faulty(t, gateway.Faults{Latency: time.Hour}, gateway.Config{Timeout: time.Minute})
	d := delivery("ada")
	answers := make(chan error, 2)
	for range 2 {
		go func() { answers <- g.Send(t.Context(), d) }()
	}
	require.ErrorContains(t, <-answers, "409", "the other one is under way")
	fake.Fail(gateway.Faults{})
	require.NoError(t, <-answers, "fixed while it waited")
	require.Len(t, fake.Deliveries(), 1)
}

func TestFakeServer_DeliversNothingAfterTheSenderGaveUp(t *testing.T) {
	t.Parallel()
	g, fake := faulty(t, gateway.Faults{Latency: time.Hour}, gateway.Config{Timeout: 20 * time.Millisecond})
	require.Error(t, g.Send(t.Context(), delivery("ada")))
	require.Eventually(t, func() bool { return len(fake.Requests()) == 1 }, 2*time.Minute, time.Millisecond)
	require.Empty(t, fake.Deliveries())
}

func TestFakeServer_AnswersWhatIsNoDelivery(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(gateway.NewFakeServer())
	t.Cleanup(s.Close)
	for i, test := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/v1/deliveries", "", 404},
		{"POST", "/elsewhere", "{}", 404},
		{"POST", "/v1/deliveries", "{", 400},
		{"POST", "/v1/deliveries", "{}", 400}, // without a key
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, s.URL+test.path, strings.NewReader(test.body))
		require.NoError(t, err)
		req.Close = true
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, test.want, res.StatusCode, fmt.Sprint(i))
	}
}
