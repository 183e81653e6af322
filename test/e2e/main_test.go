// Package e2e tests the promises end to end: the built programs against real
// Postgres and real Kafka, checked by readers that share no code with them. One
// promise, or one job of a user, a file.
package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

func TestMain(m *testing.M) {
	lab.Main(m, "TestContract_BadRowsParkAndDelayOnlyTheirKey", "TestTakeover_KilledLeaderLosesNothing",
		"TestStandby_IsHandedTheLeadAtOnce", "TestParked_TooLargeMessageWaitsForItsLimit", "TestRefusal_RelayDoesNotRunOnASequenceWithACache")
}

// liveness bounds waits for what must happen in the end, on however busy a
// machine; no test is about it. Times that users care about are logged.
const liveness = 5 * time.Minute

// steady are the flags of a relay that does not lose its lease however slowly the
// machine lets it run: for tests that allow no duplicate.
var steady = []string{"--lease", (2 * liveness).String()}

// pipe is a database, a topic, and relays between them.
type pipe struct {
	db      *harness.Database
	brokers []string
	topic   string
	bin     string
}

func newPipe(t *testing.T, partitions int) *pipe {
	return newPipeOn(t, nil, nil, partitions)
}

// newPipeOn is newPipe on servers of the test's own; nil takes the shared one.
func newPipeOn(t *testing.T, postgres *harness.PostgresServer, kafka *harness.KafkaServer, partitions int) *pipe {
	p := &pipe{bin: lab.Build(t, "github.com/millrace-go/millrace/cmd/millrace")}
	if postgres == nil {
		p.db = harness.NewDatabase(t, migrations.Lines()...)
	} else {
		p.db = harness.DatabaseOn(t, postgres, migrations.Lines()...)
	}
	if kafka == nil {
		p.brokers = harness.Brokers(t)
	} else {
		p.brokers = kafka.Brokers()
	}
	p.topic = harness.TopicOn(t, p.brokers, partitions)
	return p
}

// relay starts one `millrace relay`.
func (p *pipe) relay(t *testing.T, args ...string) *lab.Program {
	args = append([]string{"relay", "--postgres", p.db.DSN, "--kafka", strings.Join(p.brokers, ",")}, args...)
	return lab.StartProgram(t, lab.ProgramConfig{Path: p.bin, Args: args})
}

// keys of fill.
const keys = 1000

// fill commits rows in one statement, evenly over the keys; their versions go on
// from a fill of as many rows, `before` times.
func (p *pipe) fill(t *testing.T, rows, before int) {
	t.Helper()
	_, err := p.db.DB.ExecContext(t.Context(), `
		INSERT INTO outbox (topic, key, aggregate_version, payload)
		SELECT $1, 'key-' || n % $3, n / $3 + 1 + $4, convert_to(repeat('x', 300), 'UTF8')
		  FROM generate_series(0, $2 - 1) n ORDER BY n`, p.topic, rows, keys, before*rows/keys)
	require.NoError(t, err)
}

// pending counts committed rows behind the saved cursor.
func (p *pipe) pending(t *testing.T) (n int) {
	t.Helper()
	err := p.db.DB.QueryRowContext(t.Context(),
		`SELECT count(*) FROM outbox WHERE position > coalesce((SELECT max(position) FROM outbox_cursor), 0)`).Scan(&n)
	require.NoError(t, err)
	return n
}

// awaitPending waits until at most n rows are pending.
func (p *pipe) awaitPending(t *testing.T, n int, within time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool { return p.pending(t) <= n }, within, 20*time.Millisecond)
}

// verify compares the topic with the table: the same events, per key in order of
// their versions. It returns how many records were duplicates.
func (p *pipe) verify(t *testing.T) (duplicates int) {
	t.Helper()
	records := harness.ReadTopic(t, p.brokers, p.topic)
	harness.AssertOrder(t, records, func(r harness.Record) int64 { return number(t, r.Header("aggregate-version")) })
	return harness.AssertComplete(t, records, func(r harness.Record) string { return r.Header("event-id") }, p.committed(t))
}

// committed lists the ids of the events in the table.
func (p *pipe) committed(t *testing.T) []string {
	t.Helper()
	return column(t, p.db.DB, `SELECT event_id::text FROM outbox WHERE topic = $1`, p.topic)
}

// until waits for done, which may use t: it runs on the test's own goroutine.
func until(t *testing.T, within time.Duration, what string, done func() bool) {
	t.Helper()
	harness.Await(t, within, what, func(context.Context) error {
		if !done() {
			return errors.New("not yet")
		}
		return nil
	})
}

func column(t *testing.T, db *sql.DB, query string, args ...any) (values []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var v string
		require.NoError(t, rows.Scan(&v))
		values = append(values, v)
	}
	require.NoError(t, rows.Err())
	return values
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	require.NoError(t, err)
	return n
}

// command runs a program of the system and returns what it printed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s: %s (the test command installs it)", name, strings.Join(args, " "), stderr.String())
	return string(out)
}

// page returns what a relay answers over HTTP.
func page(t *testing.T, port int, path string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}
