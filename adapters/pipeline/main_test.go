package pipeline_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/pipeline"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// within is how long a test waits for what must happen. It is no measure of speed.
const within = 2 * time.Minute

// order is the payload of the tests.
type order struct {
	ID     string `json:"id"`
	Amount int    `json:"amount"`
}

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// lines returns the lines that have all the parts.
func (j *journal) lines(parts ...string) (found []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.text.String()) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			found = append(found, line)
		}
	}
	return found
}

// site is what one pipeline of a test runs on.
type site struct {
	db      *harness.Database
	brokers []string
	topic   string
	group   string
	log     *journal
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{db: harness.NewDatabase(t), brokers: harness.Brokers(t), topic: harness.Topic(t, 3), group: harness.Group(t), log: &journal{}}
	require.NoError(t, harness.CreateTopic(t.Context(), s.brokers, s.topic+".dlt", 3))
	return s
}

// config is that of the tests: a log that they read.
func (s *site) config() pipeline.Config {
	return pipeline.Config{Logger: slog.New(slog.NewJSONHandler(s.log, nil)), ListenDSN: s.db.DSN}
}

func (s *site) pipeline(t *testing.T, cfg pipeline.Config) *pipeline.Pipeline {
	t.Helper()
	p, err := pipeline.New(s.db.DB, s.brokers, cfg)
	require.NoError(t, err)
	return p
}

// start runs p until the returned func is called, which demands a clean stop.
func start(t *testing.T, p *pipeline.Pipeline) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(within):
				t.Error("the pipeline did not stop")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// place appends one message an order, each in a transaction of its own, with a
// trace of its own.
func place(t *testing.T, p *pipeline.Pipeline, topic string, payloads ...string) {
	t.Helper()
	for i, payload := range payloads {
		ctx := telemetry.StartSpan(t.Context())
		require.NoError(t, p.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
			return p.Append(ctx, tx, outbox.Message{Topic: topic, Key: fmt.Sprintf("key-%d", i%7), Type: "order.placed", Payload: []byte(payload)})
		}))
	}
}

func orders(from, to int) (payloads []string) {
	for i := from; i < to; i++ {
		payloads = append(payloads, fmt.Sprintf(`{"id":"o-%d","amount":%d}`, i, i))
	}
	return payloads
}

// ask returns the status and the text of a page of p.
func ask(p *pipeline.Pipeline, path string) (int, string) {
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil))
	text, _ := io.ReadAll(w.Body)
	return w.Code, string(text)
}

func awaitReady(t *testing.T, p *pipeline.Pipeline) {
	t.Helper()
	harness.Await(t, within, "the pipeline is ready", func(ctx context.Context) error { return p.Ready(ctx) })
}

// handled counts what handlers were given, by id.
type handled struct {
	mu  sync.Mutex
	ids map[string]int
}

func (h *handled) add(os ...order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ids == nil {
		h.ids = map[string]int{}
	}
	for _, o := range os {
		h.ids[o.ID]++
	}
}

func (h *handled) snapshot() (different, all int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.ids {
		all += n
	}
	return len(h.ids), all
}

func (h *handled) await(t *testing.T, want int) {
	t.Helper()
	harness.Await(t, within, "all orders are handled", func(context.Context) error {
		if n, _ := h.snapshot(); n < want {
			return fmt.Errorf("%d of %d", n, want)
		}
		return nil
	})
}

func newSiteLog() *slog.Logger { return slog.New(slog.NewJSONHandler(&journal{}, nil)) }

// republish sends records again as they are, beside the outbox.
func republish(t *testing.T, s *site, records []harness.Record) error {
	t.Helper()
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: s.brokers})
	if err != nil {
		return err
	}
	defer func() { _ = pub.Close() }()
	for _, r := range records {
		m := message.NewMessage(r.Header(outbox.HeaderEventID), r.Value)
		m.SetContext(t.Context())
		m.Metadata.Set(outbox.MetadataKey, string(r.Key))
		for _, h := range r.Headers {
			m.Metadata.Set(h.Key, string(h.Value))
		}
		if err := pub.Publish(s.topic, m); err != nil {
			return err
		}
	}
	return nil
}

// freePort is a port that nobody listens on yet.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
