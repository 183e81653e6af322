package cli_test

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox/replay"
	"github.com/millrace-go/millrace/test/harness"
)

// replayed is what replay --json prints.
type replayed struct {
	ID       string `json:"replay_id"`
	DryRun   bool   `json:"dry_run"`
	Done     bool   `json:"done"`
	Messages int    `json:"messages"`
	First    int64  `json:"first"`
	Last     int64  `json:"last"`
	Next     int64  `json:"next"`
	Stop     int64  `json:"stop"`
}

// replayOf runs `millrace replay --json` to its end.
func replayOf(t *testing.T, db *harness.Database, brokers []string, args ...string) (r replayed) {
	t.Helper()
	got := run(t, nil, append([]string{
		"replay", "--postgres", db.DSN, "--kafka", strings.Join(brokers, ","), "--dev", "--json",
	}, args...)...)
	require.Zero(t, got.code, got.stderr)
	require.NoError(t, json.Unmarshal([]byte(got.out), &r))
	return r
}

func version(t *testing.T) func(harness.Record) int64 {
	return func(r harness.Record) int64 {
		n, err := strconv.ParseInt(r.Header("aggregate-version"), 10, 64)
		require.NoError(t, err)
		return n
	}
}

func TestReplay_SendsARangeAKeyAndAnAggregateAgain(t *testing.T) {
	t.Parallel()
	db, topic, other, brokers := harness.NewDatabase(t), harness.Topic(t, 3), harness.Topic(t, 1), harness.Brokers(t)
	written(t, db, topic, 500)

	dry := replayOf(t, db, brokers, "--from", "101", "--to", "300")
	require.True(t, dry.DryRun)
	require.Equal(t, []int64{200, 101, 300}, []int64{int64(dry.Messages), dry.First, dry.Last})
	require.Empty(t, harness.ReadTopic(t, brokers, topic), "a dry run sends nothing")

	did := replayOf(t, db, brokers, "--from", "101", "--to", "300", "--rate", "-1", "--yes")
	require.Equal(t, dry.Messages, did.Messages)
	require.True(t, did.Done)
	records := harness.ReadTopic(t, brokers, topic)
	require.Len(t, records, 200)
	harness.AssertOrder(t, records, version(t))
	for _, r := range records {
		require.Equal(t, did.ID, r.Header(replay.Header))
		require.Equal(t, string(r.Key), r.Header("aggregate-id"))
		require.Equal(t, "payload", string(r.Value))
		require.NotEmpty(t, r.Header("event-id"))
		require.NotEmpty(t, r.Header("occurred-at"))
	}

	one := replayOf(t, db, brokers, "--key", topic+"/key-3", "--to-topic", other, "--rate", "-1", "--yes")
	require.Equal(t, 100, one.Messages)
	records = harness.ReadTopic(t, brokers, other)
	require.Len(t, records, 100)
	for i, r := range records {
		require.EqualValues(t, i+1, version(t)(r))
		require.Equal(t, "key-3", string(r.Key))
	}
	require.Zero(t, replayOf(t, db, brokers, "--aggregate", "order/key-3").Messages, "these have no aggregate type")
}

// TestReplay_GoesOnAfterAnInterruptionWithoutLoss interrupts a replay at a known
// rate, continues as it printed, and reads the topic with another client.
func TestReplay_GoesOnAfterAnInterruptionWithoutLoss(t *testing.T) {
	t.Parallel()
	db, topic, brokers := harness.NewDatabase(t), harness.Topic(t, 3), harness.Brokers(t)
	var ids []string
	for _, e := range written(t, db, topic, 1000) {
		ids = append(ids, e.ID.String())
	}
	const rate = 50
	args := []string{
		"replay", "--postgres", db.DSN, "--kafka", strings.Join(brokers, ","), "--dev",
		"--topic", topic, "--rate", strconv.Itoa(rate), "--yes",
	}
	began := time.Now()
	c := start(t, nil, args...)
	require.Eventually(t, func() bool { return len(harness.ReadTopic(t, brokers, topic)) >= 20 }, 2*time.Minute, 20*time.Millisecond)
	got := c.signal(t, syscall.SIGTERM)
	took := time.Since(began)
	require.Equal(t, 143, got.code)
	first := len(harness.ReadTopic(t, brokers, topic))
	require.Less(t, first, 1000, "the interruption came in the middle")
	require.LessOrEqual(t, float64(first), rate*(took.Seconds()+0.2), "no faster than the rate")

	found := regexp.MustCompile(`--resume (\d+:\d+) --id (\S+)`).FindStringSubmatch(got.stderr)
	require.NotNil(t, found, got.stderr)
	written(t, db, topic, 10) // what came since does not belong to the replay
	rest := replayOf(t, db, brokers, "--topic", topic, "--rate", "-1", "--yes", "--resume", found[1], "--id", found[2])
	require.True(t, rest.Done)
	records := harness.ReadTopic(t, brokers, topic)
	duplicates := harness.AssertComplete(t, records, func(r harness.Record) string { return r.Header("event-id") }, ids)
	require.LessOrEqual(t, duplicates, rate/10, "at most one batch comes twice")
	harness.AssertOrder(t, records, version(t))
	for _, r := range records {
		require.Equal(t, found[2], r.Header(replay.Header))
	}
}

func TestReplay_RefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	for problem, args := range map[string][]string{
		"--from: is \"yesterday\"":  {"--from", "yesterday"},
		"--to: is 0":                {"--to", "0"},
		"--aggregate: is \"order\"": {"--aggregate", "order"},
		"--key: is \"t\"":           {"--key", "t"},
		"--topic: is \"a\"":         {"--topic", "a", "--key", "b/c"},
		"--resume: is \"x\"":        {"--resume", "x"},
		"--rate: must be":           {"--rate", "0"},
		"kafka: is missing":         {"--yes"},
	} {
		got := run(t, map[string]string{"DATABASE_URL": "postgres://localhost/none"}, append([]string{"replay"}, args...)...)
		require.Equal(t, 2, got.code, problem)
		require.Contains(t, got.stderr, problem)
		require.Empty(t, got.out)
	}
	got := run(t, nil, "replay", "--postgres", harness.NewDatabase(t).DSN, "--from", "7", "--to", "3")
	require.Equal(t, 2, got.code)
	require.Contains(t, got.stderr, "To: must be at least From (7), is 3")
}
