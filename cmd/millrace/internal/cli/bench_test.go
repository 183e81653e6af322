package cli_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/lab"
)

// spread is one figure over the rounds.
type spread struct {
	Median, Min, Max float64
	Rounds           []float64
}

func (s spread) holds(t *testing.T, rounds int, what string) {
	t.Helper()
	require.Len(t, s.Rounds, rounds, what)
	require.LessOrEqual(t, s.Min, s.Median, what)
	require.LessOrEqual(t, s.Median, s.Max, what)
}

// benchmark runs a benchmark in a small configuration and decodes what it prints.
func benchmark(t *testing.T, report any, args ...string) {
	t.Helper()
	got := run(t, nil, append(append([]string{"bench"}, args...), "--twin", "--json")...)
	require.Zero(t, got.code, got.stderr)
	require.NoError(t, json.Unmarshal([]byte(got.out), report), got.out)
	var keys map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(got.out), &keys))
	for _, key := range []string{"results", "config", "servers", "machine"} {
		require.Contains(t, keys, key)
	}
	require.Contains(t, string(keys["machine"]), `"steal_percent"`)
	require.Contains(t, string(keys["servers"]), "kfake")
}

func TestBenchLatency_TimesEachWayAlsoBesideLongTransactions(t *testing.T) {
	t.Parallel()
	var report struct {
		Latency map[string]float64 `json:"latency_ms"`
		LongTx  map[string]float64 `json:"long_tx_latency_ms"`
		Ratios  map[string]float64
		Checks  map[string]int
		Results []struct {
			Name                   string
			LongTx                 bool   `json:"long_tx"`
			P50                    spread `json:"p50_ms"`
			P99                    spread `json:"p99_ms"`
			CatchUp                spread `json:"catch_up_ms"`
			Committed, Undelivered []int
			Checks                 map[string]int
		}
	}
	benchmark(t, &report, "latency", "--rate", "100", "--for", "500ms", "--rounds", "1", "--writers", "2", "--keys", "5", "--long-tx")
	require.Equal(t, map[string]int{"lost": 0, "reordered": 0, "duplicates": 0}, report.Checks)
	require.Len(t, report.Results, 10)
	for i, r := range report.Results {
		require.Equal(t, []string{"in_process", "polling", "listener", "direct", "forwarder_tuned"}[i%5], r.Name)
		require.Equal(t, i >= 5, r.LongTx)
		r.P50.holds(t, 1, r.Name)
		r.P99.holds(t, 1, r.Name)
		r.CatchUp.holds(t, 1, r.Name)
		require.LessOrEqual(t, r.P50.Median, r.P99.Median)
		require.InDelta(t, 50, r.Committed[0], 1, "warm-up does not count")
		switch {
		case r.Name != "forwarder_tuned": // what the rival loses, or is late with, is the rival's
			require.Zero(t, r.Checks["lost"], r.Name)
			require.Equal(t, []int{0}, r.Undelivered, r.Name)
		case r.LongTx:
			require.Equal(t, r.Committed, r.Undelivered, "the forwarder waits for the other database's transaction")
		}
	}
	for _, q := range []string{"p50", "p99", "max"} {
		require.Positive(t, report.Latency[q], q)
		require.Positive(t, report.LongTx[q], q)
	}
	require.Positive(t, report.Ratios["long_tx_vs_without_p99"])
	require.Positive(t, report.Ratios["forwarder_tuned_vs_millrace_p50"])
}

func TestBenchLatency_AtFullSpeedWithoutTheRival(t *testing.T) {
	t.Parallel()
	var report struct {
		Checks  map[string]int
		Results []struct {
			Name string
			Rate spread
		}
	}
	benchmark(t, &report, "latency", "--rate", "0", "--for", "300ms", "--rounds", "1", "--writers", "2", "--alone")
	require.Equal(t, map[string]int{"lost": 0, "reordered": 0, "duplicates": 0}, report.Checks)
	require.Len(t, report.Results, 4)
	for _, r := range report.Results {
		require.Greater(t, r.Rate.Median, 10.0, r.Name)
	}
}

func TestBenchLatency_AgesTheLongTransactions(t *testing.T) {
	t.Parallel()
	var report struct {
		LongTx  map[string]float64 `json:"long_tx_latency_ms"`
		Results []struct {
			Name string
			Long bool `json:"long_tx"`
		}
	}
	benchmark(t, &report, "latency", "--rate", "100", "--for", "300ms", "--rounds", "1", "--writers", "2", "--long-tx", "--age", "1s")
	require.Len(t, report.Results, 2)
	require.True(t, report.Results[1].Long)
	require.Positive(t, report.LongTx["p99"])
}

func TestBenchWrite_ComparesTransactionsWithAndWithout(t *testing.T) {
	t.Parallel()
	var report struct {
		Ratios struct {
			WithVsWithout float64 `json:"with_vs_without"`
			At            map[string]map[string]spread
		}
		Results []struct {
			Name       string
			Clients    int
			RoundTrips int `json:"round_trips"`
			spread
		}
	}
	benchmark(t, &report, "write", "--clients", "1,3", "--for", "100ms", "--rounds", "2", "--keys", "50")
	require.Len(t, report.Results, 14)
	for i, r := range report.Results {
		require.Equal(t, []string{"without", "append", "append_unprepared", "entity_writer", "entity_writer_commit", "without_transaction", "begin_commit"}[i%7], r.Name)
		require.Equal(t, []int{3, 4, 5, 3, 1, 1, 2}[i%7], r.RoundTrips)
		r.holds(t, 2, r.Name)
		require.Positive(t, r.Max, r.Name)
	}
	require.Positive(t, report.Ratios.WithVsWithout)
	for _, clients := range []string{"1", "3"} {
		for _, name := range []string{"with_vs_without", "unprepared_vs_without", "entity_writer_vs_without", "entity_writer_commit_vs_without", "entity_writer_commit_vs_without_transaction"} {
			s := report.Ratios.At[clients][name]
			s.holds(t, 2, name)
			require.Positive(t, s.Median)
		}
	}
}

func TestBenchIdle_MeasuresAProcess(t *testing.T) {
	t.Parallel()
	var report struct {
		CPU     *float64 `json:"cpu_percent"`
		Queries *float64 `json:"queries_per_second"`
		Wake    spread   `json:"wake_ms"`
		Results []struct {
			Name string
			CPU  spread `json:"cpu_percent"`
			RSS  spread `json:"peak_rss_mib"`
		}
	}
	benchmark(t, &report, "idle", "--for", "1s", "--rounds", "1", "--program", lab.Build(t, "github.com/millrace-go/millrace/cmd/millrace"))
	require.NotNil(t, report.CPU)
	require.NotNil(t, report.Queries)
	require.Len(t, report.Results, 2)
	require.Equal(t, "millrace", report.Results[0].Name)
	require.Greater(t, report.Results[0].RSS.Median, 1.0)
	report.Results[0].CPU.holds(t, 1, "cpu")
	report.Wake.holds(t, 1, "wake")
}

func TestBenchHistory_ComparesLogsAndBacklogs(t *testing.T) {
	t.Parallel()
	var report struct {
		Ratios  map[string]float64
		Latency map[string]map[string]float64 `json:"latency_ms"`
		Checks  map[string]int
		Results []struct {
			Name    string
			Backlog int
			spread
		}
	}
	benchmark(t, &report, "history", "--rows", "2000", "--large", "900", "--small", "90", "--rate", "100", "--for", "300ms", "--rounds", "2", "--keys", "7")
	require.Equal(t, map[string]int{"lost": 0, "reordered": 0, "duplicates": 0}, report.Checks)
	for _, name := range []string{"backlog_large_vs_small", "delivered_vs_empty_p99", "delivered_vs_empty_drain"} {
		require.Positive(t, report.Ratios[name], name)
	}
	require.Positive(t, report.Latency["empty"]["p99"])
	require.Positive(t, report.Latency["delivered"]["p99"])
	require.Len(t, report.Results, 3)
	for i, r := range report.Results {
		require.Equal(t, []int{90, 900, 90}[i], r.Backlog, r.Name)
		r.holds(t, 2, r.Name)
	}
}

func TestBenchDrain_TellsTheMemoryOfAChild(t *testing.T) {
	t.Parallel()
	var report struct {
		Checks  map[string]int
		Results []struct {
			Name      string
			Delivered []int
			PeakRSS   []float64 `json:"peak_rss_mib"`
		}
	}
	benchmark(t, &report, "drain", "--rows", "300", "--rounds", "1", "--payload", "1024", "--alone", "--child", "--cap", "1m",
		"--program", lab.Build(t, "github.com/millrace-go/millrace/cmd/millrace"))
	require.Equal(t, map[string]int{"lost": 0, "reordered": 0, "duplicates": 0}, report.Checks)
	require.Len(t, report.Results, 1)
	require.Equal(t, []int{300}, report.Results[0].Delivered)
	require.Len(t, report.Results[0].PeakRSS, 1)
	require.Greater(t, report.Results[0].PeakRSS[0], 1.0)
}

func TestBenchLocks_MeasuresOurStoresBesideRivals(t *testing.T) {
	t.Parallel()
	got := run(t, nil, "bench", "locks", "--workers", "2", "--for", "100ms", "--rounds", "2", "--json")
	require.Zero(t, got.code, got.stderr)
	var report struct {
		Postgres float64 `json:"postgres_pairs_per_s"`
		Redis    float64 `json:"redis_pairs_per_s"`
		Rivals   []struct {
			Name  string
			Pairs float64 `json:"pairs_per_s"`
			spread
		}
	}
	require.NoError(t, json.Unmarshal([]byte(got.out), &report))
	require.Positive(t, report.Postgres)
	require.Positive(t, report.Redis)
	require.Len(t, report.Rivals, 2)
	for i, name := range []string{"bsm/redislock", "shedlock_statements"} {
		require.Equal(t, name, report.Rivals[i].Name)
		require.Equal(t, report.Rivals[i].Median, report.Rivals[i].Pairs)
		report.Rivals[i].holds(t, 2, name)
	}
	require.Equal(t, 2, run(t, nil, "bench", "locks", "--workers", "0").code)
}
