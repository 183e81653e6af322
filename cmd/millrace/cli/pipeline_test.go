package cli_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/test/harness"
)

func TestDemo_KeepsEveryPromise(t *testing.T) {
	t.Parallel()
	got := run(t, nil, "demo", "--for", "3s", "--rate", "300", "--json")
	require.Zero(t, got.code, got.stderr)
	var report map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.out), &report), "standard output is one object")
	require.ElementsMatch(t, []string{
		"committed", "delivered", "lost", "reordered", "duplicates", "poison_planted", "dead_lettered", "replayed",
		"views_checked", "views_wrong", "latency_ms", "servers",
	}, slices.Collect(maps.Keys(report)))
	for _, zero := range []string{"lost", "reordered", "duplicates", "views_wrong"} {
		require.Zero(t, report[zero], zero)
	}
	require.Greater(t, report["committed"], 50.0)
	require.Equal(t, report["committed"], report["delivered"])
	require.Equal(t, 5.0, report["poison_planted"])
	require.Equal(t, 5.0, report["dead_lettered"])
	require.Equal(t, 5.0, report["replayed"])
	require.Greater(t, report["views_checked"], 10.0)
	require.Positive(t, report["latency_ms"].(map[string]any)["p50"])
	servers := report["servers"].(map[string]any)
	require.Contains(t, servers["kafka"], "test server", "a twin is called what it is")
	require.Regexp(t, `^\d+\.\d+`, servers["postgres"])
}

func TestBenchDrain_ComparesRivalsOnTheSameRows(t *testing.T) {
	t.Parallel()
	got := run(t, nil, "bench", "drain", "--rows", "300", "--rounds", "2", "--keys", "7", "--twin", "--json")
	require.Zero(t, got.code, got.stderr)
	var report struct {
		Ratios  map[string]float64
		Checks  map[string]int
		Results []struct {
			Name             string
			Rows             int
			Median, Min, Max float64
			Rounds           []float64
			Delivered        []int
			Checks           map[string]int
		}
		Servers map[string]string
		Machine map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(got.out), &report))
	require.Equal(t, map[string]int{"lost": 0, "reordered": 0, "duplicates": 0}, report.Checks)
	require.Len(t, report.Results, 4)
	for _, r := range report.Results {
		require.Equal(t, []int{300, 300}, r.Delivered, r.Name)
		require.Len(t, r.Rounds, 2)
		require.LessOrEqual(t, r.Min, r.Median)
		require.LessOrEqual(t, r.Median, r.Max)
		require.Zero(t, r.Checks["lost"], r.Name)
		require.Zero(t, r.Checks["reordered"], r.Name)
	}
	for _, rival := range []string{"vs_forwarder", "vs_forwarder_tuned", "vs_ceiling"} {
		require.Positive(t, report.Ratios[rival], rival)
	}
	require.Contains(t, report.Machine, "cpus")
	require.Contains(t, report.Servers["kafka"], "kfake")
}

func TestDLT_ListsShowsAndReplaysOnce(t *testing.T) {
	t.Parallel()
	topic, brokers := harness.Topic(t, 2), harness.Brokers(t)
	require.NoError(t, harness.CreateTopic(t.Context(), brokers, topic+".dlt", 2))
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer cl.Close()
	header := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	for i, group := range []string{"views", "mailer"} {
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{
			Topic: topic + ".dlt", Partition: int32(i), Key: []byte("k"), Value: []byte("bytes\x00of " + group),
			Headers: []kgo.RecordHeader{
				header("event-id", "0198f6f0-0000-7000-8000-00000000000"+string(rune('1'+i))), header("event-type", "thing.happened"),
				header("kafka_dlt-original-topic", topic), header("kafka_dlt-original-partition", "\x00\x00\x00"+string(rune(i))),
				header("kafka_dlt-original-offset", "\x00\x00\x00\x00\x00\x00\x00\x07"), header("dlt-target-group", group),
				header("dlt-attempts", "4"), header("kafka_dlt-exception-message", "cannot be digested"),
			},
		}).FirstErr())
	}
	dlt := func(args ...string) outcome {
		got := run(t, nil, append(append([]string{"dlt"}, args...), "--topic", topic, "--kafka", strings.Join(brokers, ","))...)
		require.Zero(t, got.code, got.stderr)
		return got
	}
	var letters []struct {
		Group, Reason   string
		Attempts        int
		SourcePartition int `json:"source_partition"`
		SourceOffset    int `json:"source_offset"`
		Replayed        bool
	}
	list := func() {
		letters = nil
		require.NoError(t, json.Unmarshal([]byte(dlt("list", "--json").out), &letters))
		require.Len(t, letters, 2)
	}
	list()
	require.Equal(t, "views", letters[0].Group)
	require.Equal(t, "cannot be digested", letters[1].Reason)
	require.Equal(t, 4, letters[0].Attempts)
	require.Equal(t, 1, letters[1].SourcePartition)
	require.Equal(t, 7, letters[0].SourceOffset)
	require.Contains(t, dlt("show", "--partition", "1", "--offset", "0").out, `bytes\x00of mailer`)
	require.Equal(t, 1, run(t, nil, "dlt", "show", "--topic", topic, "--kafka", brokers[0], "--offset", "9").code)

	dry := dlt("replay", "--group", "views")
	require.Contains(t, dry.out, "would replay 1 of 2")
	require.Contains(t, dry.stderr, "give --yes")
	require.Zero(t, read(t, brokers, topic, nil).Ghosts, "a dry run sends nothing")

	require.Contains(t, dlt("replay", "--group", "views", "--yes").out, "replayed 1 of 2")
	require.Contains(t, dlt("replay", "--yes").out, "replayed 1 of 1", "the other one, and the first not again")
	require.Contains(t, dlt("replay", "--yes").out, "replayed 0 of 0")
	list()
	require.True(t, letters[0].Replayed && letters[1].Replayed)
	v := read(t, brokers, topic, nil)
	require.Equal(t, 2, v.Ghosts, "both are in the source topic now")
	require.Zero(t, v.Duplicates)
}
