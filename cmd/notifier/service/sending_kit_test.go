package service_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/cmd/notifier/service"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// childConfig is the variable that makes this test program a service: the parts
// of a service.Config that have a JSON form.
const childConfig = "NOTIFIER_TEST_CHILD"

type child struct {
	DatabaseURL, RedisURL, Topic, AccountTopic, Group, SessionGroup, AuditGroup string
	Brokers                                                                     []string
	Partitions                                                                  int
	Sending                                                                     service.Sending
}

// runChild runs the service as its own process does, and ends the process.
func runChild(text string) {
	var c child
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err = service.Run(ctx, service.Config{
			DatabaseURL: c.DatabaseURL, RedisURL: c.RedisURL, Brokers: c.Brokers, Addr: "127.0.0.1:0",
			Topic: c.Topic, AccountTopic: c.AccountTopic, Partitions: c.Partitions,
			Group: c.Group, SessionGroup: c.SessionGroup, AuditGroup: c.AuditGroup, Sending: c.Sending,
			Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// process starts a service with cfg as a process of its own.
func process(t *testing.T, cfg service.Config) *lab.Program {
	t.Helper()
	text, err := json.Marshal(child{
		DatabaseURL: cfg.DatabaseURL, RedisURL: cfg.RedisURL, Brokers: cfg.Brokers, Topic: cfg.Topic, AccountTopic: cfg.AccountTopic,
		Partitions: cfg.Partitions, Group: cfg.Group, SessionGroup: cfg.SessionGroup, AuditGroup: cfg.AuditGroup, Sending: cfg.Sending,
	})
	require.NoError(t, err)
	return lab.StartProgram(t, lab.ProgramConfig{Path: os.Args[0], Env: []string{childConfig + "=" + string(text)}})
}

// office is what a test does beside the service, on the same database: it requests
// notifications and runs the job.
type office struct {
	*world
	app    *app.App
	sender *app.Sender
	fake   *gateway.FakeServer
	gate   *gate
	ids    []notification.ID
}

// gate stands before a gateway and lets only so many requests through; the others
// wait for more, or for their senders to give up.
type gate struct {
	next http.Handler

	mu     sync.Mutex
	left   int
	opened chan struct{} // closed when there is more
}

// allow lets n more through.
func (g *gate) allow(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left += n
	close(g.opened)
	g.opened = make(chan struct{})
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body) // to the end, or the server would not see the sender go
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	for {
		g.mu.Lock()
		opened, through := g.opened, g.left > 0
		if through {
			g.left--
		}
		g.mu.Unlock()
		if through {
			g.next.ServeHTTP(w, r)
			return
		}
		select {
		case <-opened:
		case <-r.Context().Done():
			return
		}
	}
}

// newOffice is a world with a fake gateway. Its service is not running yet.
func newOffice(t *testing.T, retry notification.Policy) *office {
	t.Helper()
	o := &office{world: newWorld(t), fake: gateway.NewFakeServer()}
	o.gate = &gate{next: o.fake, left: math.MaxInt, opened: make(chan struct{})}
	server := httptest.NewServer(o.gate)
	t.Cleanup(server.Close)
	o.cfg.Sending.Gateway, o.cfg.Sending.Retry = server.URL, retry
	o.app, o.sender = o.desk(t, retry)
	return o
}

// desk is the use cases of one more node.
func (o *office) desk(t *testing.T, retry notification.Policy) (*app.App, *app.Sender) {
	t.Helper()
	store, err := pgstore.New(o.db.DB, pgstore.Config{})
	require.NoError(t, err)
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	require.NoError(t, err)
	topic := func(name string) string {
		if name == codec.TopicAccount {
			return o.cfg.AccountTopic
		}
		return o.cfg.Topic
	}
	uow, err := postgres.NewUnitOfWork(o.db.DB, writer, codec.New(codec.Config{Topic: topic}), postgres.Config{})
	require.NoError(t, err)
	reader := postgres.NewReader(o.db.DB)
	a, err := app.New(uow, reader, &apptest.Views{Reader: reader}, app.Config{Retry: retry})
	require.NoError(t, err)
	g, err := gateway.New(gateway.Config{URL: o.cfg.Sending.Gateway, BreakAfter: -1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	s, err := app.NewSender(uow, reader, g, app.SenderConfig{Retry: retry})
	require.NoError(t, err)
	return a, s
}

// request asks for count notifications, spread over recipients.
func (o *office) request(t *testing.T, count int, recipients ...string) (ids []notification.ID) {
	t.Helper()
	for i := range count {
		got, err := o.app.RequestNotification(t.Context(), app.RequestNotification{Content: notification.Content{
			Recipient: recipients[i%len(recipients)], Channel: notification.Email, Subject: "Hello", Body: fmt.Sprint("number ", i),
		}})
		require.NoError(t, err)
		ids = append(ids, got.ID)
	}
	o.ids = append(o.ids, ids...)
	return ids
}

// count counts the notifications in one of the states.
func (o *office) count(t *testing.T, statuses ...notification.Status) (n int) {
	t.Helper()
	for _, s := range statuses {
		var one int
		require.NoError(t, o.db.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM notification WHERE status = $1`, s).Scan(&one))
		n += one
	}
	return n
}

// await waits until count notifications are in one of the states.
func (o *office) await(t *testing.T, count int, statuses ...notification.Status) {
	t.Helper()
	harness.Await(t, 2*time.Minute, fmt.Sprintf("%d notifications are %v", count, statuses), func(context.Context) error {
		if n := o.count(t, statuses...); n < count {
			return fmt.Errorf("%d of %d; the gateway got %d requests", n, count, len(o.fake.Requests()))
		}
		return nil
	})
}

// resendAll runs the job until everything is sent.
func (o *office) resendAll(t *testing.T) {
	t.Helper()
	harness.Await(t, 2*time.Minute, "everything is sent", func(ctx context.Context) error {
		if _, err := o.sender.ResendFailedNotifications(ctx, app.ResendFailed{}); err != nil {
			return err
		}
		if n := o.count(t, notification.StatusSent); n < len(o.ids) {
			return fmt.Errorf("%d of %d", n, len(o.ids))
		}
		return nil
	})
}

// requireEachOnce demands that every notification was delivered once and has one
// event of it.
func (o *office) requireEachOnce(t *testing.T) {
	t.Helper()
	delivered := o.fake.Deliveries()
	require.Len(t, delivered, len(o.ids))
	sent := events(t, o.db.DB, "notification.sent")
	for _, id := range o.ids {
		require.Equal(t, 1, delivered[id], "deliveries of %s", id)
		require.Equal(t, 1, sent[id], "Sent events of %s", id)
	}
	require.Empty(t, harness.ReadTopic(t, o.cfg.Brokers, o.cfg.Topic+".dlt"), "no dead letters")
}

// events counts the events of a type by notification.
func events(t *testing.T, db *sql.DB, kind string) map[notification.ID]int {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT aggregate_id FROM outbox WHERE event_type = $1`, kind)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	count := map[notification.ID]int{}
	for rows.Next() {
		var id notification.ID
		require.NoError(t, rows.Scan(&id))
		count[id]++
	}
	require.NoError(t, rows.Err())
	return count
}

func some(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint(prefix, i))
	}
	return names
}

var errNotYet = errors.New("not yet")

// lines is a log that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
