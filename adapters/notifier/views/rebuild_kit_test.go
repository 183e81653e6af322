package views_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache/rebuild"
	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

// logged is a real log with real views.
type logged struct {
	db      *harness.Database
	rdb     *redis.Client
	history *pgstore.History
	writer  *outbox.Writer
}

func newLogged(t testing.TB) *logged {
	t.Helper()
	l := &logged{db: harness.NewDatabase(t, migrations.Lines()...), rdb: harness.Redis(t)}
	store, err := pgstore.New(l.db.DB, pgstore.Config{})
	require.NoError(t, err)
	l.writer, err = outbox.NewWriter(store, outbox.WriterConfig{})
	require.NoError(t, err)
	l.history, err = store.History(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.history.Close() })
	return l
}

// views is a process of its own.
func (l *logged) views(t testing.TB) *views.Views {
	t.Helper()
	return newViews(t, l.rdb, nothing, views.Config{})
}

func (l *logged) rebuilder(t testing.TB, name string, cfg rebuild.Config) *rebuild.Builder {
	t.Helper()
	r, err := newBuilder(projectionOf(t, l.views(t), name), l.history, cfg)
	require.NoError(t, err)
	return r
}

// write appends events in a transaction that commit ends.
func (l *logged) write(ctx context.Context, events ...domain.Recorded) (commit func() error, err error) {
	tx, err := l.db.DB.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		m, err := codec.New(codec.Config{}).Encode(ctx, e)
		if err == nil {
			err = l.writer.Append(ctx, tx, m)
		}
		if err != nil {
			_ = tx.Rollback()
			return nil, err
		}
	}
	return tx.Commit, nil
}

// fill writes n notifications, of one to three events, by plain SQL.
func (l *logged) fill(t testing.TB, n int) {
	t.Helper()
	_, err := l.db.DB.ExecContext(t.Context(), `
INSERT INTO outbox (topic, key, aggregate_type, aggregate_id, aggregate_version, event_type, headers, payload)
SELECT 'notification.v1', 'user-' || i % 1000, 'notification', md5(i::text), v,
  (ARRAY['notification.requested', 'notification.sent', 'notification.read'])[v],
  jsonb_build_object('schema-version', '1', 'occurred-at', to_char(now() at time zone 'utc' + v * interval '1 ms', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'correlation-id', md5(i::text)),
  convert_to(json_build_object('notification_id', md5(i::text), 'recipient', 'user-' || i % 1000, 'channel', (ARRAY['email', 'sms', 'push'])[1 + i % 3],
    'subject', 'Hello ' || i, 'requested_at', to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'body', 'World', 'attempts', 1)::text, 'UTF8')
FROM generate_series(1, $1) i, generate_series(1, 3) v WHERE v <= 1 + i % 3 ORDER BY i, v`, n)
	require.NoError(t, err)
}

// last is what plain SQL has of the newest events.
type last struct {
	id, kind, channel, recipient string
	version, failures            int64
}

func (l *logged) newest(t testing.TB) (all []last) {
	t.Helper()
	rows, err := l.db.DB.QueryContext(t.Context(), `
SELECT DISTINCT ON (aggregate_id) aggregate_id, event_type, aggregate_version, key, convert_from(payload, 'UTF8')::json->>'channel',
  count(*) FILTER (WHERE event_type = 'notification.failed') OVER (PARTITION BY aggregate_id)
FROM outbox WHERE topic = 'notification.v1' ORDER BY aggregate_id, aggregate_version DESC`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var e last
		require.NoError(t, rows.Scan(&e.id, &e.kind, &e.version, &e.recipient, &e.channel, &e.failures))
		all = append(all, e)
	}
	require.NoError(t, rows.Err())
	return all
}

var kinds = map[string]notification.Status{
	"notification.requested": notification.StatusRequested, "notification.sent": notification.StatusSent, "notification.read": notification.StatusSent,
	"notification.failed": notification.StatusFailed, "notification.abandoned": notification.StatusAbandoned,
}

// agrees checks that a fresh process sees in every view what plain SQL says.
func (l *logged) agrees(t testing.TB) {
	t.Helper()
	v, all := l.views(t), l.newest(t)
	sums, lists := app.DeliveryCounters{}, map[string]int{}
	for _, e := range all {
		s, err := v.NotificationStatus(t.Context(), notification.ID(e.id))
		require.NoError(t, err, e.id)
		require.Equal(t, []any{e.version, kinds[e.kind], e.recipient}, []any{s.Version, s.Status, s.Recipient})
		c := sums[notification.Channel(e.channel)]
		c.Requested++
		c.Failed += e.failures
		switch e.kind {
		case "notification.sent":
			c.Sent++
		case "notification.read":
			c.Sent, c.Read = c.Sent+1, c.Read+1
		case "notification.abandoned":
			c.Abandoned++
		}
		sums[notification.Channel(e.channel)] = c
		lists[e.recipient]++
	}
	got, err := v.DeliveryCounters(t.Context(), time.Now())
	require.NoError(t, err)
	require.Equal(t, sums, got)
	for recipient, n := range lists {
		list, err := v.RecipientNotifications(t.Context(), recipient)
		require.NoError(t, err, recipient)
		require.Len(t, list, min(n, app.RecipientWindow))
		for _, s := range list {
			require.Equal(t, recipient, s.Recipient)
		}
	}
}

// generation counts the keys of one generation.
func (l *logged) generation(t testing.TB, name, generation string) int {
	t.Helper()
	return len(l.rdb.Keys(t.Context(), fmt.Sprintf("view:%s:%s:*", name, generation)).Val())
}
