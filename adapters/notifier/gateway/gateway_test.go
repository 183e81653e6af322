package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func delivery(recipient string) app.Delivery {
	id := notification.ID(app.NewID())
	return app.Delivery{
		IdempotencyKey: app.IdempotencyKey(id, 1), NotificationID: id, Attempt: 1,
		Content: notification.Content{Recipient: recipient, Channel: notification.SMS, Subject: "Hi", Body: "There"},
	}
}

func open(t *testing.T, h http.Handler, cfg gateway.Config) *gateway.Gateway {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	cfg.URL = s.URL + "/base"
	return dial(t, cfg)
}

func dial(t *testing.T, cfg gateway.Config) *gateway.Gateway {
	t.Helper()
	g, err := gateway.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	return g
}

// answering always answers the same.
func answering(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestSend_CarriesKeyTraceAndContent(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	var body string
	g := open(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text := make([]byte, r.ContentLength)
		_, _ = r.Body.Read(text)
		body = string(text)
		got <- r
	}), gateway.Config{Token: "secret", Traceparent: func(context.Context) string { return "00-a-b-01" }})
	d := delivery("ada")
	require.NoError(t, g.Send(t.Context(), d))
	r := <-got
	require.Equal(t, "/base/v1/deliveries", r.URL.Path)
	require.Equal(t, d.IdempotencyKey, r.Header.Get("Idempotency-Key"))
	require.Equal(t, "00-a-b-01", r.Header.Get("traceparent"))
	require.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
	require.JSONEq(t, fmt.Sprintf(`{"notification_id":%q,"attempt":1,"recipient":"ada","channel":"sms","subject":"Hi","body":"There"}`, d.NotificationID), body)
}

func TestSend_TellsFinalAnswersFromPassingOnes(t *testing.T) {
	t.Parallel()
	verdicts := []error{app.ErrRejected, app.ErrNotNow, app.ErrUnavailable, app.ErrKeySpent}
	for _, test := range []struct {
		status int
		header []string
		want   error // nil: unknown
	}{
		{400, nil, app.ErrRejected},
		{403, nil, app.ErrRejected},
		{404, nil, app.ErrRejected},
		{422, nil, app.ErrRejected},
		{422, []string{"Idempotent-Replayed", "true"}, app.ErrRejected},
		{401, nil, app.ErrUnavailable},
		{407, nil, app.ErrUnavailable},
		{425, nil, app.ErrNotNow},
		{429, nil, app.ErrNotNow},
		{408, nil, nil},
		{409, nil, nil},
		{302, []string{"Location", "/elsewhere"}, nil},
		{500, nil, nil},
		{503, nil, nil},
		{500, []string{"Idempotent-Replayed", "true"}, app.ErrKeySpent},
	} {
		g := open(t, answering(test.status, `{"error":"because\n of\tthis"}`, test.header...), gateway.Config{BreakAfter: -1})
		err := g.Send(t.Context(), delivery("ada"))
		var answer *gateway.Error
		require.ErrorAs(t, err, &answer, "%d", test.status)
		require.Equal(t, test.status, answer.Status)
		require.Equal(t, "because of this", answer.Reason)
		for _, v := range verdicts {
			require.Equal(t, errors.Is(test.want, v), errors.Is(err, v), "%d %v: %v", test.status, test.header, v)
		}
	}
	for _, status := range []int{200, 201, 202, 204} {
		g := open(t, answering(status, ""), gateway.Config{})
		require.NoError(t, g.Send(t.Context(), delivery("ada")))
	}
}

func TestSend_HonoursRetryAfter(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "soon": 0, "-3": 0, "999999": time.Hour,
		"Thu, 01 Jan 1970 00:00:00 GMT":                                0,
		time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat): 10 * time.Minute,
	} {
		g := open(t, answering(429, "", "Retry-After", header), gateway.Config{})
		err := g.Send(t.Context(), delivery("ada"))
		require.InDelta(t, want.Seconds(), app.RetryAfter(err).Seconds(), 60, "%q", header)
		if want < time.Minute {
			require.Equal(t, want, app.RetryAfter(err), "%q", header)
		}
	}
}

func TestSend_KeepsWhatAGatewaySaysShortAndClean(t *testing.T) {
	t.Parallel()
	g := open(t, answering(500, strings.Repeat("é\x00\n", 5000)), gateway.Config{})
	err := g.Send(t.Context(), delivery("ada"))
	require.Less(t, len(err.Error()), 400)
	require.NotContains(t, err.Error(), "\n")
	require.NotContains(t, err.Error(), "\x00")
}

func TestSend_KnowsThatNothingWasSentWithoutAConnection(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	g := dial(t, gateway.Config{URL: "http://user:hunter2@" + l.Addr().String()})
	err = g.Send(t.Context(), delivery("ada"))
	require.ErrorIs(t, err, app.ErrUnavailable)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestSend_ALostAnswerIsUnknown(t *testing.T) {
	t.Parallel()
	fake := gateway.NewFakeServer()
	fake.Fail(gateway.Faults{LostAnswers: 1})
	s := httptest.NewServer(fake)
	t.Cleanup(s.Close)
	g := dial(t, gateway.Config{URL: s.URL})
	d := delivery("ada")
	err := g.Send(t.Context(), d)
	require.Error(t, err)
	for _, verdict := range []error{app.ErrRejected, app.ErrNotNow, app.ErrUnavailable, app.ErrKeySpent} {
		require.NotErrorIs(t, err, verdict)
	}
	require.NoError(t, g.Send(t.Context(), d), "the gateway knows the key")
	require.Equal(t, map[notification.ID]int{d.NotificationID: 1}, fake.Deliveries())
}

// net/http would repeat it by itself, over a connection that was used before.
func TestSend_MakesOneRequestEachTime(t *testing.T) {
	t.Parallel()
	g, fake := faulty(t, gateway.Faults{}, gateway.Config{Concurrency: 1, BreakAfter: -1})
	for range 5 {
		fake.Fail(gateway.Faults{})
		require.NoError(t, g.Send(t.Context(), delivery("ada")))
		fake.Fail(gateway.Faults{LostAnswers: 1})
		require.Error(t, g.Send(t.Context(), delivery("ada")))
	}
	require.Len(t, fake.Requests(), 10)
}

func TestSend_EndsAfterItsTimeout(t *testing.T) {
	t.Parallel()
	fake := gateway.NewFakeServer()
	fake.Fail(gateway.Faults{Poison: map[string]gateway.Poison{"ada": {}}})
	s := httptest.NewServer(fake)
	t.Cleanup(s.Close)
	g := dial(t, gateway.Config{URL: s.URL, Timeout: 50 * time.Millisecond})
	err := g.Send(t.Context(), delivery("ada"))
	require.ErrorContains(t, err, "no answer: after 50ms")
	require.NotErrorIs(t, err, app.ErrUnavailable)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, g.Send(ctx, delivery("grace")), context.Canceled)
}

func TestSend_BoundsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	var under, most atomic.Int64
	full, free := make(chan struct{}), make(chan struct{})
	g := open(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n := under.Add(1)
		defer under.Add(-1)
		if n > most.Load() {
			most.Store(n)
		}
		if n == 2 {
			close(full)
		}
		<-free
	}), gateway.Config{Concurrency: 2})
	var sending sync.WaitGroup
	for range 2 {
		sending.Go(func() {
			if err := g.Send(t.Context(), delivery("ada")); err != nil {
				t.Error(err)
			}
		})
	}
	<-full
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := g.Send(ctx, delivery("grace"))
	require.ErrorIs(t, err, app.ErrUnavailable, "nothing was tried")
	close(free)
	sending.Wait()
	require.EqualValues(t, 2, most.Load())
}

func TestNew_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := gateway.New(gateway.Config{URL: "gateway", Timeout: -1, Concurrency: -1, BreakAfter: -2, BreakFor: -1})
	for _, field := range []string{"URL", "Timeout", "Concurrency", "BreakAfter", "BreakFor"} {
		require.ErrorContains(t, err, field)
	}
}
