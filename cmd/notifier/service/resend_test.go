package service_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/test/harness"
)

// fail makes count notifications that failed once and are due.
func (o *office) fail(t *testing.T, count int) {
	t.Helper()
	for _, id := range o.request(t, count, some("user-", 10)...) {
		require.NoError(t, o.app.MarkFailed(t.Context(), string(id), "busy"))
	}
	o.due(t)
}

// due ends every wait.
func (o *office) due(t *testing.T) {
	t.Helper()
	_, err := o.db.DB.ExecContext(t.Context(), `UPDATE notification_sending SET next_attempt_at = now() WHERE claimed_until IS NULL`)
	require.NoError(t, err)
}

// Two nodes run the job at once, against a gateway with errors, until all is sent:
// no attempt is made by both, and nothing is delivered twice.
func TestResend_TwoNodesNeverSendTheSameAttemptTwice(t *testing.T) {
	t.Parallel()
	retry := notification.Policy{First: time.Millisecond, Attempts: 1000}
	o := newOffice(t, retry)
	o.fake.Fail(gateway.Faults{ErrorRate: 0.2, LostAnswers: 0.1, Seed: 7})
	o.fail(t, 300)
	var nodes sync.WaitGroup
	for range 2 {
		_, sender := o.desk(t, retry)
		nodes.Go(func() {
			for t.Context().Err() == nil && o.count(t, notification.StatusFailed) > 0 {
				done, err := sender.ResendFailedNotifications(t.Context(), app.ResendFailed{})
				if err != nil || done.Lost > 0 {
					t.Errorf("%+v: %v", done, err)
					return
				}
			}
		})
	}
	nodes.Wait()
	attempts := map[string]int{}
	for _, r := range o.fake.Requests() {
		attempts[fmt.Sprint(r.NotificationID, " attempt ", r.Attempt)]++
	}
	require.Greater(t, len(attempts), 300)
	for attempt, times := range attempts {
		require.Equal(t, 1, times, attempt)
	}
	delivered, sent := o.fake.Deliveries(), events(t, o.db.DB, "notification.sent")
	for _, id := range o.ids {
		require.Equal(t, 1, delivered[id])
		require.Equal(t, 1, sent[id])
	}
	var left int
	require.NoError(t, o.db.DB.QueryRow(`SELECT count(*) FROM notification_sending`).Scan(&left))
	require.Zero(t, left)
}

// A node dies with its claims: when their time is over, another one takes them up,
// under the same idempotency keys.
func TestResend_TakesUpTheClaimsOfANodeThatDied(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{})
	o.fail(t, 30)
	for _, round := range []struct {
		claimed string
		want    int
	}{{"2 minutes", 0}, {"-1 second", 30}} {
		_, err := o.db.DB.Exec(`UPDATE notification_sending SET claimed_until = now() + $1::interval, attempt = 2, fence = 5`, round.claimed)
		require.NoError(t, err)
		var state string
		require.NoError(t, o.db.DB.QueryRow(`SELECT DISTINCT state FROM notification_sending`).Scan(&state))
		require.Equal(t, "sending", state)
		done, err := o.sender.ResendFailedNotifications(t.Context(), app.ResendFailed{Fence: 6})
		require.NoError(t, err)
		require.Equal(t, app.Resent{Claimed: round.want, Sent: round.want}, done)
	}
	for _, r := range o.fake.Requests() {
		require.Equal(t, 3, r.Attempt)
		require.Equal(t, app.IdempotencyKey(r.NotificationID, 1), r.Key)
	}
	require.Len(t, o.fake.Deliveries(), 30)
}

// The guard sees the transaction itself, so that a fence in the same database can
// be checked in it; and the claim carries the fence.
func TestResend_GuardChecksInTheTransactionOfTheEffect(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{})
	o.fail(t, 3)
	_, err := o.db.DB.Exec(`CREATE TABLE fence_of_the_test AS SELECT 7 AS fence`)
	require.NoError(t, err)
	guard := func(ctx context.Context, tx app.Tx) error {
		inside, ok := postgres.SQL(tx)
		if !ok {
			return fmt.Errorf("a %T", tx)
		}
		var fence int
		if err := inside.QueryRowContext(ctx, `SELECT fence FROM fence_of_the_test FOR SHARE`).Scan(&fence); err != nil || fence != 7 {
			return fmt.Errorf("fence is %d: %w", fence, err)
		}
		return nil
	}
	o.fake.Fail(gateway.Faults{ErrorRate: 1})
	done, err := o.sender.ResendFailedNotifications(t.Context(), app.ResendFailed{Fence: 7, Guard: guard})
	require.NoError(t, err)
	require.Equal(t, app.Resent{Claimed: 3, Failed: 3}, done)
	var fenced int
	require.NoError(t, o.db.DB.QueryRow(`SELECT count(*) FROM notification_sending WHERE fence = 7 AND state = 'failed'`).Scan(&fenced))
	require.Equal(t, 3, fenced)

	o.due(t)
	_, err = o.db.DB.Exec(`UPDATE fence_of_the_test SET fence = 8`)
	require.NoError(t, err)
	_, err = o.sender.ResendFailedNotifications(t.Context(), app.ResendFailed{Fence: 7, Guard: guard})
	require.ErrorContains(t, err, "fence is 8")
	require.Len(t, o.fake.Requests(), 3, "a late holder sends nothing more")
}

// The whole way of a notification whose first attempt fails: the group records
// the failure, the job sends it again, under its lock and in the trace it began with.
func TestJobs_FailedNotificationsAreSentAgain(t *testing.T) {
	t.Parallel()
	o := newOffice(t, notification.Policy{First: time.Millisecond})
	o.cfg.Sending.Resend, o.cfg.Sending.ResendAtLeast = "* * * * * *", "0s"
	o.fake.Fail(gateway.Faults{ErrorRate: 1})
	var log lines
	o.cfg.Logger = slog.New(telemetry.NewHandler(slog.NewJSONHandler(&log, nil)))
	s := start(t, o.cfg)
	s.awaitReady(t)
	path := s.request(t)
	harness.Await(t, within, "the first attempt fails", func(context.Context) error {
		if len(o.fake.Requests()) == 0 {
			return errNotYet
		}
		return nil
	})
	o.fake.Fail(gateway.Faults{})
	o.await(t, 1, notification.StatusSent)
	code, body, _ := call(t.Context(), "GET", s.url+path, "")
	require.Equal(t, http.StatusOK, code, "%s", body)
	s.end(t)

	for _, r := range o.fake.Requests() {
		require.Contains(t, r.Traceparent, "0af7651916cd43dd8448eb211c80319c", "each attempt belongs to the request")
	}
	for _, r := range harness.ReadTopic(t, o.cfg.Brokers, o.cfg.Topic) {
		require.Contains(t, r.Header("traceparent"), "0af7651916cd43dd8448eb211c80319c", "so does each event")
	}
	requireLinked(t, o.db.DB, log.String())
	var runs, fences int
	require.NoError(t, o.db.DB.QueryRow(`SELECT count(*), count(DISTINCT fence) FROM job_run
		WHERE name = 'resendFailedNotifications' AND fence > 0`).Scan(&runs, &fences))
	require.Positive(t, runs)
	require.Equal(t, runs, fences, "each run has a fence of its own")
}

// requireLinked finds the attempt that succeeded by the trace of its notification,
// in a line that has the trace of the job's run.
func requireLinked(t *testing.T, db *sql.DB, log string) {
	t.Helper()
	sent := 0
	for text := range strings.Lines(log) {
		var line struct {
			Msg, Status string
			Run         string `json:"trace_id"`
			Link        string `json:"link_trace_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(text), &line), text)
		if line.Msg != "notification sent again" || line.Status != string(notification.StatusSent) {
			continue
		}
		sent++
		require.Equal(t, "0af7651916cd43dd8448eb211c80319c", line.Link, text)
		var job string
		require.NoError(t, db.QueryRow(`SELECT name FROM job_run WHERE trace_id = $1`, line.Run).Scan(&job), text)
		require.Equal(t, "resendFailedNotifications", job)
	}
	require.Equal(t, 1, sent)
}
