package service_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

func TestSending_CarriesARequestToTheGatewayAndItsOutcomeBack(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{})
	s := start(t, o.cfg)
	s.awaitReady(t)
	path := s.request(t)
	id := notification.ID(strings.TrimPrefix(path, "/v1/notifications/"))
	o.awaitView(t, path, 2, "sent")

	got := o.fake.Requests()
	require.Len(t, got, 1)
	require.Equal(t, id, got[0].NotificationID)
	require.Equal(t, app.IdempotencyKey(id, 1), got[0].Key)
	require.Contains(t, got[0].Traceparent, "0af7651916cd43dd8448eb211c80319c", "one trace from the request to the gateway")
	code, body, _ := call(t.Context(), "GET", s.url+"/v1/recipients/ada/notifications", "")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, string(body), `"unread":1`)

	code, body, _ = call(t.Context(), "POST", s.url+path+"/read", "")
	require.Equal(t, http.StatusNoContent, code, "%s", body)
	o.awaitView(t, path, 3, "sent")
	harness.Await(t, within, "views and audit follow", func(ctx context.Context) error {
		_, list, _ := call(ctx, "GET", s.url+"/v1/recipients/ada/notifications", "")
		_, counters, _ := call(ctx, "GET", s.url+"/v1/counters/today", "")
		var audited int
		if err := o.db.DB.QueryRowContext(ctx, `SELECT count(*) FROM notification_audit WHERE notification_id = $1`, id).Scan(&audited); err != nil {
			return err
		}
		if !contains(list, `"unread":0`) || string(counters) != `{"email":{"requested":1,"sent":1,"failed_attempts":0,"abandoned":0,"read":1}}`+"\n" || audited != 3 {
			return fmt.Errorf("%s %s %d rows", list, counters, audited)
		}
		return nil
	})
	s.end(t)
	for _, r := range harness.ReadTopic(t, o.cfg.Brokers, o.cfg.Topic) {
		require.Contains(t, r.Header("traceparent"), "0af7651916cd43dd8448eb211c80319c", "and on through its events")
	}
}

// A service that is killed again and again while it sends, through a gateway that
// loses answers and has errors, delivers each notification once.
func TestSending_KilledServiceSendsEachNotificationOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{First: 10 * time.Millisecond, Attempts: 100})
	o.fake.Fail(gateway.Faults{Latency: 20 * time.Millisecond, LostAnswers: 0.1, ErrorRate: 0.1, Seed: 7})
	o.request(t, 600, some("user-", 40)...)
	o.gate.left = 0
	for kill := range 2 { // always in the middle, with requests under way
		p := process(t, o.cfg)
		o.gate.allow(150)
		o.await(t, 100*(kill+1), notification.StatusSent, notification.StatusFailed)
		p.Kill()
	}
	o.gate.allow(math.MaxInt / 2)
	last := process(t, o.cfg)
	o.await(t, len(o.ids), notification.StatusSent, notification.StatusFailed)
	o.resendAll(t)
	require.Zero(t, last.Terminate(within), last.Stderr())
	o.requireEachOnce(t)
	require.Greater(t, len(o.fake.Requests()), len(o.ids), "some were sent again, under their key")
}

func TestSending_WaitsForAGatewayThatIsAwayAndLosesNothing(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{First: 10 * time.Millisecond, Attempts: 100})
	proxy := harness.NewProxy(t, strings.TrimPrefix(o.cfg.Sending.Gateway, "http://"))
	o.cfg.Sending.Gateway = "http://" + proxy.Addr()
	var log lines
	o.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	proxy.Cut()
	o.request(t, 120, some("user-", 60)...)
	s := start(t, o.cfg)
	s.awaitReady(t)
	harness.Await(t, within, "partition paused", func(context.Context) error {
		if !strings.Contains(log.String(), "partition paused") {
			return errNotYet
		}
		return nil
	})
	require.Zero(t, o.count(t, notification.StatusSent, notification.StatusAbandoned), "no connection is no attempt")

	require.NoError(t, proxy.Heal())
	o.await(t, len(o.ids), notification.StatusSent, notification.StatusFailed)
	o.resendAll(t)
	s.end(t)
	o.requireEachOnce(t)
}

// A recipient whose requests hang until they time out holds up its own key only.
func TestSending_APoisonedRecipientDelaysOnlyItself(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{})
	o.fake.Fail(gateway.Faults{Poison: map[string]gateway.Poison{"poison": {}}})
	const bad = 20 // each holds its key for the 5 s of its timeout
	o.request(t, bad, "poison")
	others := o.request(t, 200, some("user-", 30)...)
	s := start(t, o.cfg)
	s.awaitReady(t)
	o.await(t, len(others), notification.StatusSent)
	tried := 0
	for _, r := range o.fake.Requests() {
		if r.Recipient == "poison" {
			tried++
		}
	}
	require.Less(t, tried, bad, "all others were sent while it still waited")
	o.fake.Fail(gateway.Faults{Poison: map[string]gateway.Poison{"poison": {Status: http.StatusUnprocessableEntity}}})
	o.await(t, bad, notification.StatusAbandoned, notification.StatusFailed)
	s.end(t)
}

func TestAudit_ItsFailureDelaysNoOtherGroup(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{})
	_, err := o.db.DB.Exec(`ALTER TABLE notification_audit RENAME TO hidden`)
	require.NoError(t, err)
	s := start(t, o.cfg)
	s.awaitReady(t)
	var paths []string
	for range 30 {
		paths = append(paths, s.request(t))
	}
	for _, path := range paths {
		o.awaitView(t, path, 2, "sent")
	}

	_, err = o.db.DB.Exec(`ALTER TABLE hidden RENAME TO notification_audit`)
	require.NoError(t, err)
	harness.Await(t, 2*time.Minute, "the audit catches up", func(ctx context.Context) error {
		var rows, distinct int
		err := o.db.DB.QueryRowContext(ctx, `SELECT count(*), count(DISTINCT event_id) FROM notification_audit`).Scan(&rows, &distinct)
		if err == nil && (rows != 60 || distinct != 60) {
			err = fmt.Errorf("%d rows of %d events", rows, distinct)
		}
		return err
	})
	s.end(t)
	require.Empty(t, harness.ReadTopic(t, o.cfg.Brokers, o.cfg.Topic+".dlt"), "it is waited for")
}

func TestAudit_IsAppendOnly(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t, migrations.Lines()...).DB
	_, err := db.Exec(`INSERT INTO notification_audit (event_id, event_type, notification_id, version, recipient, status, attempts, reason, occurred_at)
		SELECT id, 'Sent', id, 1, 'ada', 'sent', 1, '', now() FROM (SELECT '01890a5d-ac96-774b-bcce-b302099a8057'::uuid AS id) i`)
	require.NoError(t, err)
	for _, change := range []string{`UPDATE notification_audit SET status = 'x'`, `DELETE FROM notification_audit`, `TRUNCATE notification_audit`} {
		_, err := db.Exec(change)
		require.ErrorContains(t, err, "append-only", change)
	}
}
