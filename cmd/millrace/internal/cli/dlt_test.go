package cli_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/test/harness"
)

// deadLetterTopic is a topic with dead letters, and a database for the audit.
type deadLetterTopic struct {
	t       *testing.T
	topic   string
	brokers []string
	dsn     string
	cl      *kgo.Client
}

func newDeadLetterTopic(t *testing.T, suffix string) *deadLetterTopic {
	b := &deadLetterTopic{t: t, topic: harness.Topic(t, 2), brokers: harness.Brokers(t), dsn: harness.NewDatabase(t).DSN}
	require.NoError(t, harness.CreateTopic(t.Context(), b.brokers, b.topic+suffix, 2))
	var err error
	b.cl, err = kgo.NewClient(kgo.SeedBrokers(b.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(b.cl.Close)
	return b
}

func kheader(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }

// put writes a dead letter of the source partition and offset.
func (b *deadLetterTopic) put(to string, partition int32, offset int, key, group string, more ...kgo.RecordHeader) {
	headers := append([]kgo.RecordHeader{
		kheader("event-id", "0198f6f0-0000-7000-8000-0000000"+strconv.Itoa(10000+int(partition)*1000+offset)), kheader("event-type", "thing.happened"),
		kheader("kafka_dlt-original-topic", b.topic), kheader("kafka_dlt-original-partition", "\x00\x00\x00"+string(partition)),
		kheader("kafka_dlt-original-offset", "\x00\x00\x00\x00\x00\x00\x00"+string(rune(offset))), kheader("dlt-target-group", group),
		kheader("dlt-attempts", "4"), kheader("kafka_dlt-exception-message", "cannot be digested"),
	}, more...)
	require.NoError(b.t, b.cl.ProduceSync(b.t.Context(), &kgo.Record{
		Topic: to, Partition: partition, Key: []byte(key), Value: []byte("bytes\x00of " + group), Headers: headers,
	}).FirstErr())
}

// dlt runs one of the dlt commands, which must succeed.
func (b *deadLetterTopic) dlt(args ...string) outcome {
	b.t.Helper()
	got := b.try(args...)
	require.Zero(b.t, got.code, got.stderr)
	return got
}

func (b *deadLetterTopic) try(args ...string) outcome {
	b.t.Helper()
	return run(b.t, map[string]string{"MILLRACE_POSTGRES": b.dsn, "USER": "tester"},
		append(append([]string{"dlt"}, args...), "--topic", b.topic, "--kafka", strings.Join(b.brokers, ","))...)
}

type listed struct {
	Group, Reason, State, Key string
	Attempts                  int
	Partition, Offset         int
	SourcePartition           int `json:"source_partition"`
	SourceOffset              int `json:"source_offset"`
	Decision                  *struct{ Act, Actor, Note string }
}

func (b *deadLetterTopic) list(args ...string) (found []listed) {
	b.t.Helper()
	require.NoError(b.t, json.Unmarshal([]byte(b.dlt(append([]string{"list", "--json"}, args...)...).out), &found))
	return found
}

func TestDLT_ListsShowsAndReplaysOnce(t *testing.T) {
	t.Parallel()
	b := newDeadLetterTopic(t, ".dlt")
	b.put(b.topic+".dlt", 0, 7, "k", "views")
	b.put(b.topic+".dlt", 1, 7, "k", "mailer")
	found := b.list()
	require.Len(t, found, 2)
	require.Equal(t, "views", found[0].Group)
	require.Equal(t, "cannot be digested", found[1].Reason)
	require.Equal(t, 4, found[0].Attempts)
	require.Equal(t, 1, found[1].SourcePartition)
	require.Equal(t, 7, found[0].SourceOffset)
	require.Contains(t, b.dlt("show", "--place", "1/0").out, `bytes\x00of mailer`)
	require.Equal(t, 1, b.try("show", "--place", "0/9").code)
	for _, bad := range []string{"", "1", "1/", "1/2/3", "-1/0", "0/x"} {
		got := b.try("show", "--place", bad)
		require.Equal(t, 2, got.code, bad)
		require.Contains(t, got.stderr, "give partition/offset")
	}

	dry := b.dlt("replay", "--group", "views")
	require.Contains(t, dry.out, "would replay 1 of 2")
	require.Contains(t, dry.stderr, "give --yes")
	require.Zero(t, read(t, b.brokers, b.topic, nil).Ghosts, "a dry run sends nothing")

	require.Contains(t, b.dlt("replay", "--group", "views", "--yes").out, "replayed 1 of 2")
	require.Len(t, b.list(), 1)
	require.Contains(t, b.dlt("replay", "--yes").out, "replayed 1 of 1", "the other one, and the first not again")
	require.Contains(t, b.dlt("replay", "--yes").out, "replayed 0 of 0")
	require.Empty(t, b.list())
	found = b.list("--done")
	require.Equal(t, []string{"replayed", "replayed"}, []string{found[0].State, found[1].State})
	v := read(t, b.brokers, b.topic, nil)
	require.Equal(t, 2, v.Ghosts, "both are in the source topic now")
	require.Zero(t, v.Duplicates)
}

func TestDLT_WhatIsResolvedIsNoLongerOpenAndSaysByWhomAndWhy(t *testing.T) {
	t.Parallel()
	b := newDeadLetterTopic(t, ".dlt")
	for i := range 6 {
		b.put(b.topic+".dlt", 0, i, "k"+strconv.Itoa(i), "views")
	}
	got := b.try("skip", "--key", "k1", "--yes")
	require.Equal(t, 2, got.code)
	require.Contains(t, got.stderr, "--note: is missing")
	got = b.try("discard", "--note", "x", "--yes")
	require.Equal(t, 2, got.code)
	require.Contains(t, got.stderr, "give a filter")

	require.Contains(t, b.dlt("skip", "--key", "k1").out, "would skip 1 of 6 open dead letters (5 not chosen)")
	require.Contains(t, b.dlt("skip", "--key", "k1", "--note", "fixed by hand", "--yes").out, "skipped 1 of 6")
	require.Contains(t, b.dlt("discard", "--from-offset", "2", "--to-offset", "4", "--note", "test data", "--yes").out, "discarded 2 of 2")
	got = b.try("park", "--key", "k4", "--yes")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, ".parking: topic does not exist: create it with 2 partitions, or give --create-topic")
	require.Contains(t, b.dlt("park", "--key", "k4", "--note", "asked", "--create-topic", "--yes").out, "parked 1 of 3")

	open := b.list()
	require.Equal(t, []int{0, 5}, []int{open[0].Offset, open[1].Offset})
	require.Contains(t, b.dlt("replay", "--rate", "-1", "--yes").out, "replayed 2 of 2")
	var states []string
	done := b.list("--done")
	for _, l := range done {
		states = append(states, l.State)
	}
	require.Equal(t, []string{"replayed", "skipped", "discarded", "discarded", "parked", "replayed"}, states)
	require.Equal(t, "fixed by hand", done[1].Decision.Note)
	require.Contains(t, done[1].Decision.Actor, "@")
	require.Contains(t, b.dlt("show", "--partition", "0", "--offset", "2").out, ": test data")

	parked := harness.ReadTopic(t, b.brokers, b.topic+".parking")
	require.Len(t, parked, 1)
	require.Equal(t, "bytes\x00of views", string(parked[0].Value))
	require.Equal(t, "asked", parked[0].Header("dlt-parked-note"))
	require.Contains(t, b.dlt("replay", "--dlt-topic", b.topic+".parking", "--yes").out, "replayed 1 of 1", "parked dead letters can be replayed")

	var entries []struct {
		Action, Actor, Topic, Note, Outcome string
		Open, Resolved                      int
		Filter                              map[string]any
	}
	audit := run(t, nil, "dlt", "audit", "--postgres", b.dsn, "--json")
	require.Zero(t, audit.code, audit.stderr)
	require.NoError(t, json.Unmarshal([]byte(audit.out), &entries))
	require.Len(t, entries, 5)
	require.Equal(t, "skip", entries[4].Action)
	require.Equal(t, "done", entries[4].Outcome)
	require.Equal(t, map[string]any{"key": "k1"}, entries[4].Filter)
	require.Equal(t, 1, entries[4].Resolved)
	require.Equal(t, 6, entries[4].Open)
	require.Equal(t, b.topic+".parking", entries[0].Topic)
	require.Contains(t, run(t, nil, "dlt", "audit", "--postgres", b.dsn, "--dlt-topic", b.topic+".dlt").out, "test data")
}

func TestDLT_ActsNeedAnAuditOrSayThatTheyHaveNone(t *testing.T) {
	t.Parallel()
	b := newDeadLetterTopic(t, ".dlt")
	b.put(b.topic+".dlt", 0, 1, "k", "views")
	b.put(b.topic+".dlt", 0, 2, "k", "views")
	b.dsn = ""
	got := b.try("skip", "--yes", "--note", "x")
	require.Equal(t, 2, got.code)
	require.Contains(t, got.stderr, "--no-audit")
	b.dlt("skip", "--yes", "--note", "x", "--no-audit", "--limit", "1")
	require.Equal(t, "resolved", b.list("--done")[0].State)
	require.Len(t, b.list(), 1)
	b.dsn = harness.EmptyDatabase(t).DSN
	got = b.try("skip", "--yes", "--note", "x")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "run millrace migrate up")
}

func TestDLT_FiltersChoose(t *testing.T) {
	t.Parallel()
	b := newDeadLetterTopic(t, ".dlt")
	b.put(b.topic+".dlt", 0, 1, "a", "views", kheader("dlt-disposition", "panic"), kheader("dlt-failed-at", "2026-01-02T03:04:05Z"))
	b.put(b.topic+".dlt", 1, 2, "b", "mailer", kheader("dlt-disposition", "decode"), kheader("kafka_dlt-exception-message", "row 17 is gone"))
	for name, c := range map[string]struct {
		args []string
		keys string
	}{
		"all":         {nil, "ab"},
		"partition":   {[]string{"--partition", "1"}, "b"},
		"offsets":     {[]string{"--from-offset", "1"}, ""},
		"key":         {[]string{"--key", "a"}, "a"},
		"empty key":   {[]string{"--key", ""}, ""},
		"group":       {[]string{"--group", "mailer"}, "b"},
		"disposition": {[]string{"--disposition", "panic,timeout"}, "a"},
		"error":       {[]string{"--error", `row \d+ is`}, "b"},
		"since":       {[]string{"--since", "1h"}, "b"},
		"until":       {[]string{"--until", "2026-01-02T03:04:06Z"}, "a"},
		"limit":       {[]string{"--limit", "1"}, "a"},
	} {
		keys := ""
		for _, l := range b.list(c.args...) {
			keys += l.Key
		}
		require.Equal(t, c.keys, keys, name)
	}
	got := b.try("list", "--since", "yesterday", "--error", "(", "--limit", "-1", "--to-offset", "-1")
	require.Equal(t, 2, got.code)
	for _, part := range []string{"4 problems", "--since: is", "--error: is", "--limit: is", "--from-offset, --to-offset"} {
		require.Contains(t, got.stderr, part)
	}
	var st struct {
		Total, Keys          int
		States, Groups       map[string]int
		Dispositions, Errors map[string]int
		Oldest               string
	}
	b.dlt("skip", "--key", "b", "--note", "x", "--yes")
	require.NoError(t, json.Unmarshal([]byte(b.dlt("stats", "--json").out), &st))
	require.Equal(t, 2, st.Total)
	require.Equal(t, map[string]int{"open": 1, "skipped": 1}, st.States)
	require.Equal(t, map[string]int{"views": 1}, st.Groups)
	require.Equal(t, map[string]int{"panic": 1}, st.Dispositions)
	require.Equal(t, "2026-01-02T03:04:05Z", st.Oldest)
	require.Contains(t, b.dlt("stats").out, "2 dead letters of "+b.topic+".dlt, 1 open, of 1 key")
}

func TestDLT_ExportsEveryByte(t *testing.T) {
	t.Parallel()
	b := newDeadLetterTopic(t, ".dlt")
	b.put(b.topic+".dlt", 0, 1, "\x00\xffkey", "views", kheader("binary", "\x00\xff"))
	require.NoError(t, b.cl.ProduceSync(t.Context(), &kgo.Record{Topic: b.topic + ".dlt", Partition: 1}).FirstErr())
	file := filepath.Join(t.TempDir(), "dead-letters.jsonl")
	require.Contains(t, b.dlt("export", "--out", file).stderr, "wrote 2 dead letters")
	require.Equal(t, 1, b.try("export", "--out", file).code, "no file is overwritten")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, b.dlt("export").out, string(text))
	var lines []map[string]any
	for s := bufio.NewScanner(strings.NewReader(string(text))); s.Scan(); {
		var l map[string]any
		require.NoError(t, json.Unmarshal(s.Bytes(), &l))
		lines = append(lines, l)
	}
	require.Len(t, lines, 2)
	require.Equal(t, "AP9rZXk=", lines[0]["key_base64"])
	require.Equal(t, "Ynl0ZXMAb2Ygdmlld3M=", lines[0]["value"])
	require.Contains(t, lines[0]["headers"], map[string]any{"name": "binary", "value": "AP8="})
	require.Nil(t, lines[1]["value"])
	require.Nil(t, lines[1]["key_base64"])
	require.Equal(t, "open", lines[1]["state"])
}

func TestDLT_FindsTheTopicsOfSpringKafka(t *testing.T) {
	t.Parallel()
	b := newDeadLetterTopic(t, "-dlt")
	b.put(b.topic+"-dlt", 0, 1, "k", "java")
	got := b.try("list")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "there is "+b.topic+"-dlt: give --dlt-topic")
	require.Contains(t, b.dlt("replay", "--dlt-topic", b.topic+"-dlt", "--yes").out, "replayed 1 of 1")
	require.Len(t, harness.ReadTopic(t, b.brokers, b.topic), 1)
}

func (b *deadLetterTopic) await(cond func() bool) {
	b.t.Helper()
	require.Eventually(b.t, cond, 2*time.Minute, 200*time.Millisecond)
}

func TestDLT_SkippingADeadLetterReleasesWhatWaitsBehindIt(t *testing.T) {
	t.Parallel()
	b := newDeadLetterTopic(t, ".dlt")
	db := harness.NewDatabase(t)
	b.dsn = db.DSN
	for i := range 3 {
		b.put(b.topic+".dlt", 0, i, "k", "views")
		_, err := db.DB.Exec(`INSERT INTO consumer_quarantine (consumer_group, topic, source_partition, source_offset, key, failures)
			VALUES ('views', $1, 0, $2, 'k', 1)`, b.topic, i)
		require.NoError(t, err)
	}
	state := func() (s string) {
		require.NoError(t, db.DB.QueryRow(`SELECT string_agg(state, ' ' ORDER BY source_offset) FROM consumer_quarantine`).Scan(&s))
		return s
	}
	b.dlt("replay", "--limit", "1", "--yes")
	require.Equal(t, "waiting waiting waiting", state(), "of a replay the handler has the last word")
	b.dlt("skip", "--limit", "1", "--note", "x", "--yes")
	require.Equal(t, "waiting released waiting", state())
	b.dlt("discard", "--key", "k", "--note", "x", "--no-audit", "--yes")
	require.Equal(t, "waiting released released", state())
}
