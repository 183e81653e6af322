package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// written fills the outbox with n messages over a few keys, by SQL alone.
func written(t *testing.T, db *harness.Database, topic string, n int) []check.Event {
	t.Helper()
	_, err := db.DB.Exec(`SELECT outbox_append($1, 'key-' || i % 5, 'payload'::text, aggregate_id => 'key-' || i % 5, aggregate_version => i / 5 + 1)
FROM generate_series(0, $2) i`, topic, n-1)
	require.NoError(t, err)
	rows, err := db.DB.Query(`SELECT event_id, key, aggregate_id, aggregate_version FROM outbox`)
	require.NoError(t, err)
	defer rows.Close()
	var events []check.Event
	for rows.Next() {
		var e check.Event
		require.NoError(t, rows.Scan(&e.ID, &e.Key, &e.Aggregate, &e.Version))
		events = append(events, e)
	}
	require.NoError(t, rows.Err())
	return events
}

// read judges what is in topic against events.
func read(t *testing.T, brokers []string, topic string, events []check.Event) check.Verdict {
	t.Helper()
	b, err := check.NewBroker(brokers)
	require.NoError(t, err)
	defer b.Close()
	ends, err := b.Ends(t.Context(), topic)
	require.NoError(t, err)
	ledger := check.NewTally()
	require.NoError(t, b.Read(t.Context(), topic, nil, ends, func(r check.Record) { ledger.Deliver(r) }))
	return ledger.Judge(events)
}

func TestRelay_DeliversInOrderAndStopsWithoutDuplicates(t *testing.T) {
	t.Parallel()
	db, topic, brokers := harness.NewDatabase(t), harness.Topic(t, 3), harness.Brokers(t)
	events := written(t, db, topic, 500)
	port, err := lab.FreePort()
	require.NoError(t, err)
	args := []string{
		"relay", "--postgres", db.DSN, "--kafka", strings.Join(brokers, ","), "--dev", "--relay-name", "r",
		"--http", fmt.Sprintf("127.0.0.1:%d", port), "--log-format", "json",
	}

	for range 2 { // the second finds nothing to do
		c := start(t, nil, args...)
		c.says(t, "relay leads")
		require.Eventually(t, func() bool { return read(t, brokers, topic, events).Delivered == len(events) }, 2*time.Minute, 20*time.Millisecond)
		require.Equal(t, "ok: leading\n", get(t, port, "/readyz"))
		require.Equal(t, "ok\n", get(t, port, "/livez"))
		require.Contains(t, get(t, port, "/metrics"), `relay_leader{relay="r"} 1`)
		got := c.signal(t, syscall.SIGTERM)
		require.Zero(t, got.code, got.stderr)
		require.Empty(t, got.out)
		for line := range strings.Lines(got.stderr) {
			require.True(t, json.Valid([]byte(line)), line)
		}
	}
	v := read(t, brokers, topic, events)
	require.True(t, v.OK(), v.Witnesses)
	require.Zero(t, v.Duplicates)

	got := run(t, nil, "lag", "--postgres", db.DSN, "--json")
	require.Contains(t, got.out, `"messages": 0`)
}

func get(t *testing.T, port int, path string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}

func TestRelay_RefusesALogThatItCannotReadSafely(t *testing.T) {
	t.Parallel()
	args := []string{"relay", "--kafka", "127.0.0.1:1", "--postgres"}
	got := run(t, nil, append(args, harness.EmptyDatabase(t).DSN)...)
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "millrace migrate up")

	db := harness.NewDatabase(t)
	_, err := db.DB.Exec(`ALTER SEQUENCE outbox_position_seq CACHE 20`)
	require.NoError(t, err)
	got = run(t, nil, append(args, db.DSN)...)
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "CACHE 20")
}

func TestRelay_RefusesATestBroker(t *testing.T) {
	t.Parallel()
	k, err := harness.StartKafka(t.Context(), harness.KafkaConfig{Twin: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Stop(context.Background())) })
	db := harness.NewDatabase(t)
	args := []string{"relay", "--postgres", db.DSN, "--kafka", k.Brokers()[0]}

	got := run(t, nil, args...)
	require.Equal(t, 2, got.code, got.stderr)
	require.Contains(t, got.stderr, "give --dev")

	c := start(t, nil, append(args, "--dev")...)
	c.says(t, "relay leads")
	require.Zero(t, c.signal(t, syscall.SIGINT).code)
}

func TestRelay_WaitsForServersThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"postgres at 127.0.0.1:1": {"--postgres", "postgres://u:hush@127.0.0.1:1/d?sslmode=disable", "--kafka", "127.0.0.1:1"},
		"kafka at 127.0.0.1:1":    {"--postgres", harness.NewDatabase(t).DSN, "--kafka", "127.0.0.1:1"},
	} {
		c := start(t, nil, append([]string{"relay"}, args...)...)
		c.says(t, name+" does not answer")
		c.says(t, "again_in=500ms")
		got := c.signal(t, syscall.SIGTERM)
		require.Zero(t, got.code, "a service that was asked to stop has not failed")
		require.NotContains(t, got.stderr, "hush")
	}
}

func TestRelay_ReportsWhetherWakeUpsArrive(t *testing.T) {
	t.Parallel()
	db, brokers := harness.NewDatabase(t), harness.Brokers(t)
	for value, args := range map[string][]string{
		"1": nil, "0": {"--no-listen"},
		"0 ": {"--listen-postgres", "postgres://u:hush@127.0.0.1:1/d?sslmode=disable"},
	} {
		port, err := lab.FreePort()
		require.NoError(t, err)
		c := start(t, nil, append([]string{
			"relay", "--postgres", db.DSN, "--kafka", strings.Join(brokers, ","), "--dev", "--relay-name", "bell" + strings.TrimSpace(value),
			"--http", fmt.Sprintf("127.0.0.1:%d", port),
		}, args...)...)
		c.says(t, "relay leads")
		require.Eventually(t, func() bool {
			return strings.Contains(get(t, port, "/metrics"), "relay_listener_working "+strings.TrimSpace(value)+"\n")
		}, 2*time.Minute, 20*time.Millisecond)
		if value == "0 " {
			c.says(t, "no wake-ups arrive; the relay polls")
		}
		got := c.signal(t, syscall.SIGTERM)
		require.Zero(t, got.code, got.stderr)
		require.NotContains(t, got.stderr, "hush")
	}
}
