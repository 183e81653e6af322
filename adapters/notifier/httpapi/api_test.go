package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/httpapi"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain"
)

const valid = `{"recipient":"ada","channel":"email","subject":"Hello","body":"World"}`

type server struct {
	*httptest.Server
	memory *apptest.Memory
	views  *apptest.Views
	app    *app.App
}

func start(t *testing.T, cfg httpapi.Config) *server {
	t.Helper()
	memory := &apptest.Memory{}
	views := &apptest.Views{Reader: memory}
	a, err := app.New(memory, memory, views, app.Config{})
	require.NoError(t, err)
	return &server{Server: serve(t, a, cfg), memory: memory, views: views, app: a}
}

func serve(t *testing.T, a httpapi.Application, cfg httpapi.Config) *httptest.Server {
	t.Helper()
	api, err := httpapi.New(a, cfg)
	require.NoError(t, err)
	s := httptest.NewUnstartedServer(api)
	s.Config = api.Server()
	s.Start()
	t.Cleanup(s.Close)
	return s
}

type reply struct {
	*http.Response
	body []byte
}

func (r reply) field(t *testing.T, name string) any {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(r.body, &m), "%s", r.body)
	return m[name]
}

func call(t *testing.T, method, url, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return reply{res, text}
}

func TestPost_CreatesWhatItsLocationNames(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	created := call(t, "POST", s.URL+"/v1/notifications", valid, "X-Correlation-Id", "order-7")
	require.Equal(t, http.StatusCreated, created.StatusCode, "%s", created.body)
	id := created.field(t, "id").(string)
	require.Equal(t, "/v1/notifications/"+id, created.Header.Get("Location"))
	require.Equal(t, "order-7", s.memory.Events()[0].Trace.CorrelationID)

	got := call(t, "GET", s.URL+created.Header.Get("Location"), "")
	require.Equal(t, http.StatusOK, got.StatusCode)
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.Equal(t, "requested", got.field(t, "status"))
	require.Equal(t, "ada", got.field(t, "recipient"))
	require.NotContains(t, string(got.body), "World", "the body of a message is not shown")
}

func TestPost_NamesEveryWrongFieldAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	got := call(t, "POST", s.URL+"/v1/notifications", `{"channel":"pigeon","subject":" "}`)
	require.Equal(t, http.StatusBadRequest, got.StatusCode)
	require.Equal(t, "application/problem+json", got.Header.Get("Content-Type"))
	var p struct {
		Errors []struct{ Field, Reason string }
	}
	require.NoError(t, json.Unmarshal(got.body, &p))
	var fields []string
	for _, e := range p.Errors {
		fields = append(fields, e.Field)
		require.NotEmpty(t, e.Reason)
	}
	require.Equal(t, []string{"recipient", "channel", "subject", "body"}, fields)
}

func TestPost_RefusesBodiesThatAreNotTheObjectExpected(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{MaxBody: 4096})
	for name, test := range map[string]struct {
		body, mediaType string
		want            int
	}{
		"not JSON":       {"{", "application/json", 400},
		"misspelt field": {`{"recipent":"ada"}`, "application/json", 400},
		"wrong type":     {`{"recipient":7}`, "application/json", 400},
		"two values":     {valid + valid, "application/json", 400},
		"too large":      {`{"body":"` + strings.Repeat("x", 5000) + `"}`, "application/json", 413},
		"another form":   {"recipient=ada", "application/x-www-form-urlencoded", 415},
		"no media type":  {valid, "", 415},
		"with charset":   {valid, "application/json; charset=utf-8", 201},
	} {
		got := call(t, "POST", s.URL+"/v1/notifications", test.body, "Content-Type", test.mediaType)
		require.Equal(t, test.want, got.StatusCode, "%s: %s", name, got.body)
	}
	got := call(t, "POST", s.URL+"/v1/notifications", `{"recipent":"ada"}`)
	require.Contains(t, got.field(t, "detail"), "recipent")
	require.Len(t, s.memory.Events(), 1)
}

func TestPost_IsRepeatableWithAnIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	post := func(body, key string) reply {
		return call(t, "POST", s.URL+"/v1/notifications", body, "Idempotency-Key", key)
	}
	first, second := post(valid, "k1"), post(valid, "k1")
	require.Equal(t, http.StatusCreated, first.StatusCode)
	require.Equal(t, http.StatusOK, second.StatusCode)
	require.Equal(t, first.Header.Get("Location"), second.Header.Get("Location"))
	require.Equal(t, http.StatusUnprocessableEntity, post(strings.Replace(valid, "Hello", "Other", 1), "k1").StatusCode)

	bad := post(valid, "two words")
	require.Equal(t, http.StatusBadRequest, bad.StatusCode)
	require.Contains(t, string(bad.body), "Idempotency-Key")
	require.Len(t, s.memory.Events(), 1)
}

func TestAbandon_IsAllowedOnce(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	url := s.URL + call(t, "POST", s.URL+"/v1/notifications", valid).Header.Get("Location") + "/abandon"
	require.Equal(t, http.StatusBadRequest, call(t, "POST", url, `{"reason":""}`).StatusCode)
	require.Equal(t, http.StatusNoContent, call(t, "POST", url, `{"reason":"asked to"}`).StatusCode)
	again := call(t, "POST", url, `{"reason":"asked to"}`)
	require.Equal(t, http.StatusConflict, again.StatusCode)
	require.Contains(t, again.field(t, "detail"), "it is abandoned")
}

func TestUnknown_IsNotFound(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	for _, id := range []string{app.NewID(), "7", "%00"} {
		require.Equal(t, http.StatusNotFound, call(t, "GET", s.URL+"/v1/notifications/"+id, "").StatusCode)
		require.Equal(t, http.StatusNotFound, call(t, "POST", s.URL+"/v1/notifications/"+id+"/abandon", `{"reason":"r"}`).StatusCode)
	}
	require.Equal(t, http.StatusMethodNotAllowed, call(t, "DELETE", s.URL+"/v1/notifications/7", "").StatusCode)
}

// broken is an application whose every use case ends with err.
type broken struct{ err error }

func (b broken) RequestNotification(ctx context.Context, _ app.RequestNotification) (app.Requested, error) {
	return app.Requested{}, b.end(ctx)
}

func (b broken) GetNotification(ctx context.Context, _ string) (app.NotificationStatus, error) {
	return app.NotificationStatus{}, b.end(ctx)
}
func (b broken) AbandonNotification(ctx context.Context, _, _ string) error { return b.end(ctx) }

func (b broken) MarkRead(ctx context.Context, _ string) error { return b.end(ctx) }

func (b broken) ListRecipientNotifications(ctx context.Context, _ string, _ int) (app.RecipientList, error) {
	return app.RecipientList{}, b.end(ctx)
}

func (b broken) DeliveryCounters(ctx context.Context, _ string) (app.DeliveryCounters, error) {
	return nil, b.end(ctx)
}

func (b broken) end(ctx context.Context) error {
	if b.err == nil {
		<-ctx.Done()
		return fmt.Errorf("get: %w", ctx.Err())
	}
	return fmt.Errorf("get: %w", b.err)
}

func TestErrors_TellTheCallerOnlyWhatIsTheirs(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	cfg := httpapi.Config{Timeout: 50 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for _, test := range []struct {
		err  error
		want int
	}{
		{domain.ErrVersionConflict, 409},
		{errors.New("pq: secret of the inside"), 500},
		{nil, 503},
	} {
		s := serve(t, broken{test.err}, cfg)
		got := call(t, "GET", s.URL+"/v1/notifications/7", "")
		s.Close()
		require.Equal(t, test.want, got.StatusCode)
		require.NotContains(t, string(got.body), "secret")
	}
	require.Contains(t, log.String(), "secret of the inside")
	require.Equal(t, 2, strings.Count(log.String(), "\n"), "what is the caller's is not logged")
}

func TestHealth_ReadyTellsWhyNot(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{Ready: func(context.Context) error { return errors.New("relay: lease is held") }})
	require.Equal(t, http.StatusOK, call(t, "GET", s.URL+"/livez", "").StatusCode)
	got := call(t, "GET", s.URL+"/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, got.StatusCode)
	require.Equal(t, "not ready: relay: lease is held\n", string(got.body))
	require.Equal(t, http.StatusOK, call(t, "GET", start(t, httpapi.Config{}).URL+"/readyz", "").StatusCode)
}

func TestTrace_WrapsEveryRequest(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{Trace: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Trace-Id", r.Header.Get("traceparent")[3:35])
			next.ServeHTTP(w, r)
		})
	}})
	got := call(t, "GET", s.URL+"/livez", "", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", got.Header.Get("X-Trace-Id"))
}

func TestNew_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := httpapi.New(nil, httpapi.Config{MaxBody: -1, Timeout: -1})
	for _, field := range []string{"application", "MaxBody", "Timeout"} {
		require.ErrorContains(t, err, field)
	}
}
