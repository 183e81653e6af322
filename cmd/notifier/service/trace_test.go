package service_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/test/harness"
)

// line is a line of the log, as far as an operator looks for it.
type line struct {
	Msg, Notification, Status, Group, Handler, Job string

	Trace string `json:"trace_id"`
	Link  string `json:"link_trace_id"`
}

// find returns the lines that have id in either field.
func (l *lines) find(t *testing.T, id string) (found []line) {
	t.Helper()
	for text := range strings.Lines(l.String()) {
		var one line
		require.NoError(t, json.Unmarshal([]byte(text), &one), text)
		if one.Trace == id || one.Link == id {
			found = append(found, one)
		}
	}
	return found
}

// untraced requests a notification without a trace of its own, and returns the
// trace id of the answer and the notification's.
func (r *running) untraced(t *testing.T) (trace, id string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", r.url+"/v1/notifications", strings.NewReader(valid))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusCreated, res.StatusCode)
	return res.Header.Get("X-Trace-Id"), strings.TrimPrefix(res.Header.Get("Location"), "/v1/notifications/")
}

// texts reads two columns of text.
func texts(t *testing.T, db *sql.DB, query string, args ...any) (first, second []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var a, b string
		require.NoError(t, rows.Scan(&a, &b))
		first, second = append(first, a), append(second, b)
	}
	require.NoError(t, rows.Err())
	return first, second
}

// The trace id of the answer to a request finds everything that the request led
// to, and nothing of another request that goes the same way at the same time: in
// the database, in Kafka, at the gateway, in the audit, and in the log, also of the
// job that sends again what had failed, which runs under a trace of its own.
func TestTrace_OneIDFindsTheWholeLifeOfANotification(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{First: time.Millisecond, Attempts: 1000})
	o.cfg.Sending.Resend, o.cfg.Sending.ResendAtLeast = "* * * * * *", "0s"
	o.fake.Fail(gateway.Faults{ErrorRate: 1})
	var log lines
	o.cfg.Logger = slog.New(telemetry.NewHandler(slog.NewJSONHandler(&log, nil)))
	s := start(t, o.cfg)
	s.awaitReady(t)
	trace, id := s.untraced(t)
	require.Regexp(t, `^[0-9a-f]{32}$`, trace)
	s.request(t) // the other one
	o.await(t, 2, notification.StatusFailed)
	o.fake.Fail(gateway.Faults{})
	o.await(t, 2, notification.StatusSent)
	const audited = `SELECT 'notification.' || lower(event_type), notification_id::text FROM notification_audit WHERE traceparent LIKE '00-' || $1 || '-%' ORDER BY version`
	harness.Await(t, within, "the audit has it", func(context.Context) error {
		events, _ := texts(t, o.db.DB, audited, trace)
		if !slices.Contains(events, "notification.sent") {
			return fmt.Errorf("only %v", events)
		}
		return nil
	})
	s.end(t)

	events, ids := texts(t, o.db.DB, `SELECT event_type, aggregate_id FROM outbox WHERE headers->>'traceparent' LIKE '00-' || $1 || '-%' ORDER BY position`, trace)
	n := len(events)
	require.GreaterOrEqual(t, n, 3)
	require.Equal(t, append(append([]string{"notification.requested"}, slices.Repeat([]string{"notification.failed"}, n-2)...), "notification.sent"), events)
	require.Equal(t, slices.Repeat([]string{id}, n), ids)
	inAudit, ofAudit := texts(t, o.db.DB, audited, trace)
	require.Equal(t, events, inAudit)
	require.Equal(t, ids, ofAudit)

	var published []string
	for _, r := range harness.ReadTopic(t, o.cfg.Brokers, o.cfg.Topic) {
		if strings.HasPrefix(r.Header("traceparent"), "00-"+trace+"-") {
			require.Equal(t, id, r.Header("aggregate-id"))
			published = append(published, r.Header("event-type"))
		}
	}
	require.Equal(t, events, published)

	var attempts []int
	for _, r := range o.fake.Requests() {
		if strings.HasPrefix(r.Traceparent, "00-"+trace+"-") {
			require.Equal(t, id, string(r.NotificationID))
			attempts = append(attempts, r.Attempt)
		}
	}
	require.Len(t, attempts, n-1, "each of them had an event")
	require.Equal(t, 1, attempts[0])
	requireLogged(t, o, log.find(t, trace), id, n-1)
}

// requireLogged demands a line of the group for the first attempt, and one of the
// job for each other, the last of them for the one that was sent.
func requireLogged(t *testing.T, o *office, found []line, id string, attempts int) {
	t.Helper()
	require.Len(t, found, attempts, "%+v", found)
	first, last := found[0], found[len(found)-1]
	for _, l := range found {
		require.Equal(t, id, l.Notification)
	}
	require.Equal(t, "notification was not sent", first.Msg)
	require.Equal(t, o.cfg.Sending.Group, first.Group)
	require.Empty(t, first.Link, "its own trace")
	for _, l := range found[1:] {
		require.Equal(t, "notification sent again", l.Msg)
		require.NotEqual(t, l.Trace, l.Link)
		job, outcome := texts(t, o.db.DB, `SELECT name, outcome FROM job_run WHERE trace_id = $1`, l.Trace)
		require.Equal(t, []string{"resendFailedNotifications"}, job)
		require.Equal(t, []string{"ok"}, outcome)
	}
	require.Equal(t, "sent", last.Status)
}

// A dead letter and the lines about it are found by the trace of the message, also
// one that another program wrote.
func TestTrace_FindsADeadLetterAndWhatIsSaidOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	_, err := w.db.DB.Exec(`SELECT outbox_append($1, 'ada', 'not JSON'::text, 'notification.sent', headers => $2::jsonb)`,
		w.cfg.Topic, fmt.Sprintf(`{"traceparent":"00-%s-00f067aa0ba902b7-01"}`, trace))
	require.NoError(t, err)
	var log lines
	w.cfg.Logger = slog.New(telemetry.NewHandler(slog.NewJSONHandler(&log, nil)))
	s := start(t, w.cfg)
	s.awaitReady(t)
	harness.Await(t, within, "each group has a dead letter", func(context.Context) error {
		dead := harness.ReadTopic(t, w.cfg.Brokers, w.cfg.Topic+".dlt")
		for _, r := range dead {
			require.Contains(t, r.Header("traceparent"), trace)
		}
		if len(dead) < 2 || len(log.find(t, trace)) < 2 {
			return errNotYet
		}
		return nil
	})
	s.end(t)
	var handlers []string
	for _, l := range log.find(t, trace) {
		require.Equal(t, "message became a dead letter", l.Msg)
		handlers = append(handlers, l.Handler)
	}
	slices.Sort(handlers)
	require.Equal(t, []string{"audit", "views"}, handlers)
}
