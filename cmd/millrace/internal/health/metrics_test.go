package health_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/millrace/internal/health"
	"github.com/millrace-go/millrace/outbox"
)

var update = flag.Bool("update", false, "write docs/metrics.md")

// exposed returns every metric of the standalone relay.
func exposed(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	m, err := health.NewMetrics("v1")
	require.NoError(t, err)
	relay, err := m.Relay("orders", "relay")
	require.NoError(t, err)
	relay.Follow(func() outbox.Status { return outbox.Status{Leading: true, Epoch: 7} })
	require.NoError(t, m.Listener("orders", func() bool { return true }))
	hooks := relay.Hooks(outbox.Hooks{})
	hooks.Acked([]outbox.Entry{{Message: outbox.Message{Topic: "orders"}}}, nil)
	hooks.Delivered(1, time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	relay.WatchLag(ctx, func(context.Context) (outbox.Lag, error) {
		cancel()
		return outbox.Lag{}, nil
	}, 0)
	problems, err := testutil.GatherAndLint(m.Registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	families, err := m.Registry.Gather()
	require.NoError(t, err)
	return families
}

func TestMetrics_TellTheStateOfTheRelay(t *testing.T) {
	t.Parallel()
	m, err := health.NewMetrics("v1")
	require.NoError(t, err)
	relay, err := m.Relay("", "r")
	require.NoError(t, err)
	relay.Follow(func() outbox.Status { return outbox.Status{Leading: true, Epoch: 7} })
	working := false
	require.NoError(t, m.Listener("", func() bool { return working }))
	expect := func(listener string) {
		require.NoError(t, testutil.GatherAndCompare(m.Registry, strings.NewReader(`
# HELP relay_build_info Always 1; the label tells the version.
# TYPE relay_build_info gauge
relay_build_info{version="v1"} 1
# HELP relay_listener_working 1 if wake-ups of writers are known to arrive, 0 if the relay only polls.
# TYPE relay_listener_working gauge
relay_listener_working `+listener+`
# HELP relay_epoch Number of this process's present or last leadership.
# TYPE relay_epoch gauge
relay_epoch{relay="r"} 7
# HELP relay_leader 1 if this process leads, 0 if it stands by.
# TYPE relay_leader gauge
relay_leader{relay="r"} 1
`), "relay_build_info", "relay_listener_working", "relay_epoch", "relay_leader"))
	}
	expect("0")
	working = true
	expect("1")
}

func TestMetrics_OfSeveralOutboxesCarryTheirNames(t *testing.T) {
	t.Parallel()
	m, err := health.NewMetrics("v1")
	require.NoError(t, err)
	for i, name := range []string{"billing", "orders"} {
		relay, err := m.Relay(name, "r")
		require.NoError(t, err)
		relay.Follow(func() outbox.Status { return outbox.Status{Leading: i == 0, Epoch: int64(i), Members: 3} })
		require.NoError(t, m.Listener(name, func() bool { return i == 1 }))
		hooks := relay.Hooks(outbox.Hooks{})
		hooks.HandingOver(outbox.Member{})
		hooks.Unsaved(3 + i)
	}
	require.NoError(t, testutil.GatherAndCompare(m.Registry, strings.NewReader(`
# HELP relay_listener_working 1 if wake-ups of writers are known to arrive, 0 if the relay only polls.
# TYPE relay_listener_working gauge
relay_listener_working{outbox="billing"} 0
relay_listener_working{outbox="orders"} 1
# HELP relay_handovers_total Times that this process stepped down in favour of another of its fleet that led fewer outboxes.
# TYPE relay_handovers_total counter
relay_handovers_total{outbox="billing",relay="r"} 1
relay_handovers_total{outbox="orders",relay="r"} 1
# HELP relay_instances Processes of the fleet, this one included, that stand ready for this outbox; 0 outside of a fleet.
# TYPE relay_instances gauge
relay_instances{outbox="billing",relay="r"} 3
relay_instances{outbox="orders",relay="r"} 3
# HELP relay_leader 1 if this process leads, 0 if it stands by.
# TYPE relay_leader gauge
relay_leader{outbox="billing",relay="r"} 1
relay_leader{outbox="orders",relay="r"} 0
# HELP relay_messages_unsaved_total Messages read and not covered by the saved cursor when a lead broke off: no more than these came twice for it.
# TYPE relay_messages_unsaved_total counter
relay_messages_unsaved_total{outbox="billing",relay="r"} 3
relay_messages_unsaved_total{outbox="orders",relay="r"} 4
`), "relay_listener_working", "relay_handovers_total", "relay_instances", "relay_leader", "relay_messages_unsaved_total"))
	_, err = m.Relay("orders", "r")
	require.Error(t, err, "twice the same")
}

// TestMetrics_AreThoseOfTheirPage: run it with -update to write the table again.
func TestMetrics_AreThoseOfTheirPage(t *testing.T) {
	t.Parallel()
	const path, begin, end = "../../../../docs/metrics.md", "<!-- metrics -->\n", "<!-- end -->\n"
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(page), begin)
	require.True(t, ok)
	table, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := metricsTable(exposed(t))
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(head+begin+want+end+tail), 0o644))
		return
	}
	require.Equal(t, want, table)
}

func metricsTable(families []*dto.MetricFamily) string {
	out := "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n"
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		out += fmt.Sprintf("| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	return out
}

var (
	metricName = regexp.MustCompile(`\b(?:relay|outbox)_[a-z_]+`)
	suffix     = regexp.MustCompile(`_(?:bucket|count|sum)$`)
	matcher    = regexp.MustCompile(`\{([^}]*)\}|by \(([^)]*)\)`)
	labelName  = regexp.MustCompile(`(\w+)\s*(?:=~|=|,|$)`)
)

// unknown lists the metrics and labels of a PromQL expression that are not exposed.
func unknown(families []*dto.MetricFamily, expr string) (bad []string) {
	labels := []string{"le"}
	for _, f := range families {
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
	}
	for _, name := range metricName.FindAllString(expr, -1) {
		i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool {
			return f.GetName() == name || f.GetType() == dto.MetricType_HISTOGRAM && f.GetName() == suffix.ReplaceAllString(name, "") && suffix.MatchString(name)
		})
		if i < 0 {
			bad = append(bad, name)
		}
	}
	for _, m := range matcher.FindAllStringSubmatch(expr, -1) {
		for _, l := range labelName.FindAllStringSubmatch(m[1]+m[2], -1) {
			if !slices.Contains(labels, l[1]) {
				bad = append(bad, l[1])
			}
		}
	}
	return bad
}

func TestUnknown_FindsWhatIsNotExposed(t *testing.T) {
	t.Parallel()
	families := exposed(t)
	require.Empty(t, unknown(families, `sum by (le, wake) (rate(relay_batch_size_bucket{relay=~"$relay"}[5m])) + relay_reads_total`))
	require.Equal(t, []string{"relay_reads", "relay_leader_count", "outbox_size", "job", "colour"},
		unknown(families, `sum by (wake, job) (relay_reads{colour="red"}) + relay_leader_count + outbox_size`))
}

func TestDeploy_AlertsNameWhatExists(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../../deploy/prometheus/rules.yaml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.UnmarshalWithOptions(text, &file, yaml.Strict()))
	page, err := os.ReadFile("../../../../docs/observability.md")
	require.NoError(t, err)
	families, alerts := exposed(t), 0
	for _, rule := range file.Groups[0].Rules {
		alerts++
		require.Empty(t, unknown(families, rule.Expr), rule.Alert)
		require.NotEmpty(t, metricName.FindString(rule.Expr), rule.Alert)
		require.Contains(t, []string{"warning", "critical"}, rule.Labels["severity"], rule.Alert)
		require.True(t, strings.HasSuffix(rule.Annotations["runbook_url"], "/docs/observability.md#"+strings.ToLower(rule.Alert)), rule.Alert)
		require.Contains(t, string(page), "\n### "+rule.Alert+"\n")
	}
	require.GreaterOrEqual(t, alerts, 7)
}

func TestDeploy_DashboardShowsWhatExists(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../../deploy/grafana/millrace-relay.json")
	require.NoError(t, err)
	var board struct {
		UID    string
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &board))
	require.Equal(t, "millrace-relay", board.UID)
	families, shown := exposed(t), 0
	for _, p := range board.Panels {
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			shown++
			require.NotEmpty(t, metricName.FindString(target.Expr), p.Title)
			require.Empty(t, unknown(families, target.Expr), p.Title)
		}
	}
	require.Greater(t, shown, 12)
}
