package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/notifier/service"
	"github.com/millrace-go/millrace/domain/notification"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childConfig); text != "" {
		runChild(text)
	}
	harness.Main(m)
}

const (
	within = 2 * time.Minute
	valid  = `{"recipient":"ada","channel":"email","subject":"Hello","body":"World"}`
)

// world is what one service runs on.
type world struct {
	cfg   service.Config
	db    *harness.Database
	redis *redis.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{db: harness.NewDatabase(t, migrations.Lines()...), redis: harness.Redis(t)}
	opt := w.redis.Options()
	w.cfg = service.Config{
		DatabaseURL: w.db.DSN, Brokers: harness.Brokers(t), RedisURL: fmt.Sprintf("redis://%s/%d", opt.Addr, opt.DB),
		Addr: "127.0.0.1:0", Topic: harness.Topic(t, 3), AccountTopic: harness.Topic(t, 3), Partitions: 3,
		Group: harness.Group(t), SessionGroup: harness.Group(t), AuditGroup: harness.Group(t),
		Sending: service.Sending{Group: harness.Group(t), ProbeEvery: 200 * time.Millisecond},
	}
	return w
}

// running is one run of the service.
type running struct {
	url  string
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, cfg service.Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{stop: cancel, done: make(chan error, 1)}
	address := make(chan string, 1)
	cfg.Listening = func(addr string) { address <- addr }
	go func() { r.done <- service.Run(ctx, cfg) }()
	select {
	case addr := <-address:
		r.url = "http://" + addr
	case err := <-r.done:
		cancel()
		t.Fatal("service did not start:", err)
	}
	t.Cleanup(cancel)
	return r
}

// end stops the service as SIGTERM does, and demands a clean stop.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		require.NoError(t, err)
	case <-time.After(within):
		t.Fatal("the service did not stop")
	}
}

func (r *running) awaitReady(t *testing.T) {
	t.Helper()
	harness.Await(t, within, "the service is ready", func(ctx context.Context) error {
		code, body, _ := call(ctx, "GET", r.url+"/readyz", "")
		if code != http.StatusOK {
			return fmt.Errorf("%d: %s", code, body)
		}
		return nil
	})
}

func call(ctx context.Context, method, url, body string) (int, []byte, http.Header) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	return res.StatusCode, text, res.Header
}

// request posts one notification and returns the path of it.
func (r *running) request(t *testing.T) string {
	t.Helper()
	code, body, header := call(t.Context(), "POST", r.url+"/v1/notifications", valid)
	require.Equal(t, http.StatusCreated, code, "%s", body)
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", header.Get("X-Trace-Id"))
	return header.Get("Location")
}

func (w *world) awaitView(t *testing.T, path string, version int, status string) {
	t.Helper()
	harness.Await(t, within, "the view is written", func(ctx context.Context) error {
		generation, err := w.redis.HGet(ctx, "view:notification:generation", "live").Result()
		if err != nil {
			return err
		}
		raw, err := w.redis.Get(ctx, "view:notification:"+generation+":{"+strings.TrimPrefix(path, "/v1/notifications/")+"}").Result()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(raw, fmt.Sprintf("%020d", version)) || !strings.Contains(raw, `"status":"`+status+`"`) {
			return errors.New(raw)
		}
		return nil
	})
}

func TestRun_CarriesARequestThroughKafkaIntoTheView(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := start(t, w.cfg)
	s.awaitReady(t)
	path := s.request(t)
	w.awaitView(t, path, 1, "requested")

	code, body, _ := call(t.Context(), "POST", s.url+path+"/abandon", `{"reason":"asked to"}`)
	require.Equal(t, http.StatusNoContent, code, "%s", body)
	w.awaitView(t, path, 2, "abandoned")
	code, body, _ = call(t.Context(), "GET", s.url+path, "")
	require.Equal(t, http.StatusOK, code)
	var status map[string]any
	require.NoError(t, json.Unmarshal(body, &status))
	require.Equal(t, "abandoned", status["status"])
	require.Equal(t, "asked to", status["reason"])
	s.end(t)

	records := harness.ReadTopic(t, w.cfg.Brokers, w.cfg.Topic)
	require.Len(t, records, 2)
	for i, r := range records {
		require.Equal(t, "ada", string(r.Key))
		require.Equal(t, fmt.Sprint(i+1), r.Header("aggregate-version"))
		require.Contains(t, r.Header("traceparent"), "0af7651916cd43dd8448eb211c80319c", "one trace from request to record")
	}
}

func TestRun_PutsWhatItCannotReadAmongTheDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.db.DB.Exec(`SELECT outbox_append($1, 'ada', 'not JSON'::text, 'notification.sent')`, w.cfg.Topic)
	require.NoError(t, err)
	s := start(t, w.cfg)
	s.awaitReady(t)
	w.awaitView(t, s.request(t), 1, "requested")
	harness.Await(t, within, "each group has a dead letter", func(context.Context) error {
		groups := map[string]bool{}
		for _, dead := range harness.ReadTopic(t, w.cfg.Brokers, w.cfg.Topic+".dlt") {
			if string(dead.Value) != "not JSON" || string(dead.Key) != "ada" {
				return fmt.Errorf("%s: %s", dead.Key, dead.Value)
			}
			groups[dead.Header("dlt-target-group")] = true
		}
		if !maps.Equal(groups, map[string]bool{w.cfg.Group: true, w.cfg.AuditGroup: true}) {
			return fmt.Errorf("of groups %v", groups)
		}
		return nil
	})
	s.end(t)
}

func TestRun_StopsAndStartsWithoutLossOrDuplicate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	var want []string
	for range 3 {
		s := start(t, w.cfg)
		s.awaitReady(t)
		for range 40 {
			want = append(want, strings.TrimPrefix(s.request(t), "/v1/notifications/"))
		}
		s.end(t)
	}
	last := start(t, w.cfg)
	harness.Await(t, within, "all are published", func(context.Context) error {
		if n := len(harness.ReadTopic(t, w.cfg.Brokers, w.cfg.Topic)); n < len(want) {
			return fmt.Errorf("%d of %d", n, len(want))
		}
		return nil
	})
	last.end(t)
	records := harness.ReadTopic(t, w.cfg.Brokers, w.cfg.Topic)
	duplicates := harness.AssertComplete(t, records, func(r harness.Record) string { return r.Header("aggregate-id") }, want)
	require.Zero(t, duplicates)
}

// A notification's way leaves its marks in the metrics of every part that it goes
// through.
func TestMetrics_TellOfEveryPart(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{})
	o.cfg.Sending.Resend = "* * * * * *"
	s := start(t, o.cfg)
	s.awaitReady(t)
	s.request(t)
	o.await(t, 1, notification.StatusSent)
	ask(t, "POST", s.url+"/v1/accounts", "", credentials)
	require.Equal(t, http.StatusOK, s.me(t, s.logIn(t)))
	harness.Await(t, within, "all parts are counted", func(ctx context.Context) error {
		code, body, _ := call(ctx, "GET", s.url+"/metrics", "")
		if code != http.StatusOK {
			return fmt.Errorf("%d %s", code, body)
		}
		for _, want := range []string{
			`relay_messages_published_total\{relay="[^"]+",topic="` + o.cfg.Topic + `"\} [1-9]`,
			`relay_leader\{relay="[^"]+"\} 1`,
			`outbox_pending_messages\{relay="[^"]+"\} \d`,
			`consumer_records_total\{group="` + o.cfg.Sending.Group + `",outcome="done",topic="` + o.cfg.Topic + `"\} [1-9]`,
			`inbox_events_total\{group="` + o.cfg.Sending.Group + `",result="applied",topic="` + o.cfg.Topic + `"\} [1-9]`,
			`cache_requests_total\{cache="[^"]+",result="[^"]+"\} [1-9]`,
			`job_lock_attempts_total\{lock_name="resendFailedNotifications"\} [1-9]`,
			`go_sql_open_connections\{db_name="postgres"\} [1-9]`,
			`process_resident_memory_bytes [1-9]`,
		} {
			if !regexp.MustCompile("(?m)^" + want).Match(body) {
				return fmt.Errorf("no %s in:\n%s", want, body)
			}
		}
		return nil
	})
	s.end(t)
}
