package cli_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDemo_KeepsEveryPromise(t *testing.T) {
	t.Parallel()
	got := run(t, nil, "demo", "--for", "3s", "--rate", "300", "--json")
	require.Zero(t, got.code, got.stderr)
	var report map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.out), &report), "standard output is one object")
	require.ElementsMatch(t, []string{
		"committed", "delivered", "lost", "reordered", "duplicates", "poison_planted", "dead_lettered", "replayed",
		"views_checked", "views_wrong", "latency_ms", "servers", "sends",
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
