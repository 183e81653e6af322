package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/test/harness"
)

// One pgbench transaction: lock the entity, then ten events of it; one in ten
// rolls back. Rows are written by plain SQL, as a service in any language would.
const writerScript = `
\set k random(1, 1000)
\set fate random(1, 10)
BEGIN;
UPDATE entity SET version = version + 10 WHERE id = :k RETURNING version - 10 AS base \gset
INSERT INTO outbox (topic, key, aggregate_type, aggregate_id, aggregate_version, event_type, headers, payload)
SELECT '%[1]s', 'key-' || :k, 'entity', :k, :base + n, 'entity.changed', '{"correlation-id": "pgbench"}', convert_to('{"n":' || n || '}', 'UTF8')
  FROM generate_series(1, 10) n ORDER BY n;
\if :fate = 1
ROLLBACK;
\else
COMMIT;
\endif
`

// And by the function, from psql.
const psqlScript = `
BEGIN;
UPDATE entity SET version = version + 12 WHERE id <= 1000;
SELECT count(outbox_append('%[1]s', 'key-' || id, '{"from":"psql"}', 'entity.changed', 'entity', id::text, version - 12 + n, '{"correlation-id": "psql"}'))
  FROM entity, generate_series(1, 12) n WHERE id <= 1000;
COMMIT;
`

// TestContract_RowsOfOtherWritersReachKafka is the main job on rows that
// Millrace did not write: psql and many pgbench clients insert, `millrace relay`
// publishes, and kcat (librdkafka) reads the topic back.
func TestContract_RowsOfOtherWritersReachKafka(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 4)
	_, err := p.db.DB.ExecContext(t.Context(), `
		CREATE TABLE entity (id int PRIMARY KEY, version bigint NOT NULL DEFAULT 0);
		INSERT INTO entity SELECT generate_series(1, 1000)`)
	require.NoError(t, err)
	relay := p.relay(t, steady...)

	command(t, "psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", "SELECT 1", "-f", script(t, psqlScript, p.topic), p.db.DSN)
	command(t, "pgbench", "-n", "-c", "16", "-j", "2", "-t", "650", "-f", script(t, writerScript, p.topic), p.db.DSN)
	p.awaitPending(t, 0, liveness)
	require.Zero(t, relay.Terminate(liveness))

	versions := map[string]int64{}
	seen := map[string]bool{}
	hasher := kgo.StickyKeyPartitioner(nil).ForTopic(p.topic) // Java's murmur2, by another library
	for _, r := range kcat(t, p) {
		require.False(t, seen[r.headers["event-id"]], "no crash, no duplicate")
		seen[r.headers["event-id"]] = true
		require.Equal(t, versions[r.key]+1, number(t, r.headers["aggregate-version"]), "order of %s", r.key)
		versions[r.key]++
		require.Equal(t, hasher.Partition(&kgo.Record{Key: []byte(r.key)}, 4), r.partition)
		require.Equal(t, r.key, "key-"+r.headers["aggregate-id"])
		require.Equal(t, "entity.changed", r.headers["event-type"])
		require.Contains(t, []string{"psql", "pgbench"}, r.headers["correlation-id"])
		require.NotEmpty(t, r.headers["occurred-at"])
	}
	want := p.committed(t)
	require.GreaterOrEqual(t, len(want), 100_000)
	require.Len(t, seen, len(want))
	for _, id := range want {
		require.True(t, seen[id], "event %s is missing", id)
	}
}

func script(t *testing.T, text, topic string) string {
	path := filepath.Join(t.TempDir(), "script.sql")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, text, topic), 0o644))
	return path
}

type kcatRecord struct {
	partition int
	key       string
	headers   map[string]string
}

// kcat reads the topic with librdkafka.
func kcat(t *testing.T, p *pipe) []kcatRecord {
	out := command(t, "kcat", "-C", "-q", "-e", "-b", strings.Join(p.brokers, ","), "-t", p.topic, "-o", "beginning", "-f", "%p\t%k\t%h\n")
	var records []kcatRecord
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		require.Len(t, fields, 3, line)
		r := kcatRecord{key: fields[1], headers: map[string]string{}}
		var err error
		r.partition, err = strconv.Atoi(fields[0])
		require.NoError(t, err)
		for _, h := range strings.Split(fields[2], ",") {
			name, value, _ := strings.Cut(h, "=")
			r.headers[name] = value
		}
		records = append(records, r)
	}
	return records
}

// TestContract_BadRowsParkAndDelayOnlyTheirKey: what another writer inserted for
// a topic that does not exist is set aside, visibly; everything else flows.
func TestContract_BadRowsParkAndDelayOnlyTheirKey(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 2)
	_, err := p.db.DB.ExecContext(t.Context(), `
		SELECT outbox_append($1, 'k', '1', aggregate_version => 1);
		`, p.topic)
	require.NoError(t, err)
	_, err = p.db.DB.ExecContext(t.Context(), `SELECT outbox_append('no-such-topic', 'k', 'x'), outbox_append('no-such-topic', 'k', 'y')`)
	require.NoError(t, err)
	_, err = p.db.DB.ExecContext(t.Context(), `SELECT outbox_append($1, 'k', '2', aggregate_version => 2)`, p.topic)
	require.NoError(t, err)
	relay := p.relay(t, steady...)
	harness.Await(t, liveness, "the bad rows are parked", func(ctx context.Context) error {
		if n := len(column(t, p.db.DB, `SELECT reason FROM outbox_parked WHERE topic = 'no-such-topic'`)); n != 2 {
			return fmt.Errorf("%d are parked", n)
		}
		if n := p.pending(t); n > 0 {
			return errors.New("the rest is still pending")
		}
		return nil
	})
	require.Zero(t, relay.Terminate(liveness))
	require.Zero(t, p.verify(t))
}
