package cli_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

func TestPartitions_ListsMakesIndexesAndDrops(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	env := map[string]string{"DATABASE_URL": db.DSN}
	_, err := db.DB.ExecContext(t.Context(), `
		INSERT INTO outbox (topic, key, created_at) SELECT 't', 'k', now() - interval '2 days' FROM generate_series(1, 10);
		SELECT setval('outbox_position_seq', 9000000);
		INSERT INTO outbox (topic, key) VALUES ('t', 'k');
		INSERT INTO outbox_cursor (relay, position) VALUES ('relay', 5)`)
	require.NoError(t, err)

	partition := func(name string, args ...string) (why string) {
		got := run(t, env, append([]string{"partitions", "--json"}, args...)...)
		require.Zero(t, got.code, got.stderr)
		var list []struct {
			Name, Why string
			Droppable bool
		}
		require.NoError(t, json.Unmarshal([]byte(got.out), &list))
		for _, p := range list {
			if p.Name == name {
				require.Equal(t, p.Why == "", p.Droppable)
				return p.Why
			}
		}
		require.Fail(t, "no such partition", name)
		return ""
	}
	require.Equal(t, "relay relay has delivered up to 5", partition("outbox_p0"))
	_, err = db.DB.ExecContext(t.Context(), `UPDATE outbox_cursor SET position = 9000001`)
	require.NoError(t, err)
	require.Equal(t, "its newest row is younger than 168h0m0s", partition("outbox_p0"))
	require.Equal(t, "the retention is forever", partition("outbox_p0", "--retention", "forever"))
	require.Empty(t, partition("outbox_p0", "--retention", "24h"))
	require.Contains(t, run(t, env, "partitions").out, "KEPT BECAUSE")

	got := run(t, env, "partitions", "drop", "--retention", "24h")
	require.Equal(t, "would drop outbox_p0 outbox_p4000000\n", got.out)
	require.Contains(t, got.stderr, "give --yes")
	require.Empty(t, partition("outbox_p0", "--retention", "24h"), "a dry run drops nothing")
	got = run(t, env, "partitions", "drop", "--retention", "24h", "--yes", "--json")
	require.Zero(t, got.code, got.stderr)
	require.JSONEq(t, `{"dry_run": false, "dropped": ["outbox_p0", "outbox_p4000000"], "in_use": false}`, got.out)
	require.Equal(t, "would drop nothing\n", run(t, env, "partitions", "drop").out)
	require.Equal(t, 2, run(t, env, "partitions", "drop", "--retention", "forever").code)

	require.Equal(t, "made 2 partitions\n", run(t, env, "partitions", "make").out)
	got = run(t, env, "partitions", "index")
	require.Zero(t, got.code, got.stderr)
	require.Contains(t, got.stderr, "CREATE INDEX CONCURRENTLY")
	require.Equal(t, fmt.Sprintln("the history has its indexes (0 statements)"), run(t, env, "partitions", "index").out)
}

func TestRelay_DropsWhatIsPastItsRetention(t *testing.T) {
	t.Parallel()
	for retention, kept := range map[string]bool{"24h": false, "forever": true} {
		db := harness.NewDatabase(t)
		_, err := db.DB.ExecContext(t.Context(), `
			INSERT INTO outbox (topic, key, created_at) SELECT 't', 'k', now() - interval '30 days' FROM generate_series(1, 10);
			SELECT setval('outbox_position_seq', 9000000);
			INSERT INTO outbox_cursor (relay, position) VALUES ('relay', 9000000)`)
		require.NoError(t, err)
		c := start(t, nil, "relay", "--postgres", db.DSN, "--kafka", strings.Join(harness.Brokers(t), ","), "--dev", "--retention", retention)
		partitions := func() (n int) {
			require.NoError(t, db.DB.QueryRow(`SELECT count(*) FROM outbox_partitions`).Scan(&n))
			return n
		}
		// Upkeep makes partitions up to 24,000,000 first, and then drops the first two.
		want := map[bool]int{true: 8, false: 6}[kept]
		require.Eventually(t, func() bool { return partitions() == want }, 2*time.Minute, 10*time.Millisecond)
		require.Zero(t, c.signal(t, syscall.SIGTERM).code)
		require.Equal(t, want, partitions())
	}
}
