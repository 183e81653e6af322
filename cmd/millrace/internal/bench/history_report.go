package bench

import (
	"fmt"

	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// HistoryReport is what bench history --json prints. Its keys are part of the
// interface.
type HistoryReport struct {
	Ratios    HistoryRatios        `json:"ratios"`
	LatencyMS map[string]Quantiles `json:"latency_ms"` // by log: empty, delivered
	Checks    Checks               `json:"checks"`
	Results   []*historyResult     `json:"results"`
	Latency   []*latencyResult     `json:"latency"`
	Config    HistoryConfig        `json:"config"`
	Servers   servers.Names        `json:"servers"`
	Machine   Machine              `json:"machine"`
}

// HistoryRatios are of medians over the rounds.
type HistoryRatios struct {
	BacklogLargeVsSmall   float64 `json:"backlog_large_vs_small"`   // messages per second, on the empty log
	DeliveredVsEmptyP99   float64 `json:"delivered_vs_empty_p99"`   // latency beside a long log by that beside an empty one
	DeliveredVsEmptyDrain float64 `json:"delivered_vs_empty_drain"` // messages per second of the small backlog
}

// historyResult is one backlog on one log, in messages per second.
type historyResult struct {
	Name    string `json:"name"`
	Log     string `json:"log"`
	Backlog int    `json:"backlog"`
	Spread
	Checks Checks `json:"checks"`
	Note   string `json:"note"`
}

func newHistoryReport(b *historyBench) *HistoryReport {
	small, large, long := b.drains[nameShort+"_small"], b.drains[nameShort+"_large"], b.drains[nameLong+"_small"]
	r := &HistoryReport{
		Ratios: HistoryRatios{
			ratio(large.Spread, small.Spread), ratio(b.delays[nameLong].P99, b.delays[nameShort].P99), ratio(long.Spread, small.Spread),
		},
		LatencyMS: map[string]Quantiles{},
		Results:   []*historyResult{small, large, long},
		Latency:   []*latencyResult{b.delays[nameShort], b.delays[nameLong]},
		Config:    b.cfg, Servers: b.set.Names, Machine: b.watch.stop(),
	}
	for _, x := range r.Latency {
		r.LatencyMS[x.Name] = x.quantiles()
		r.Checks = r.Checks.plus(x.Checks)
	}
	for _, x := range r.Results {
		r.Checks = r.Checks.plus(x.Checks)
	}
	return r
}

func (c Checks) plus(d Checks) Checks {
	return Checks{c.Lost + d.Lost, c.Reordered + d.Reordered, c.Duplicates + d.Duplicates}
}

// Table is the report for people: rows of cells, the head first.
func (r *HistoryReport) Table() [][]string {
	rows := [][]string{{"NAME", "MEDIAN", "MIN", "MAX", "UNIT", "LOST", "REORDERED", "DUPLICATES", "NOTE"}}
	row := func(name, format string, s Spread, unit string, c Checks, note string) {
		n := func(f float64) string { return fmt.Sprintf(format, f) }
		rows = append(rows, []string{name, n(s.Median), n(s.Min), n(s.Max), unit, fmt.Sprint(c.Lost), fmt.Sprint(c.Reordered), fmt.Sprint(c.Duplicates), note})
	}
	for _, x := range r.Latency {
		row("p99_"+x.Name, "%.2f", x.P99, "ms", x.Checks, x.Note)
	}
	for _, x := range r.Results {
		row(x.Name, "%.0f", x.Spread, "msg/s", x.Checks, x.Note)
	}
	return rows
}

// Summary says what the table's figures are.
func (r *HistoryReport) Summary() string {
	return fmt.Sprintf("log of %d delivered rows beside an empty one, medians of %d rounds; large : small backlog %.2f   p99 %.2f   drain %.2f; %s",
		r.Config.Rows, r.Config.Rounds, r.Ratios.BacklogLargeVsSmall, r.Ratios.DeliveredVsEmptyP99, r.Ratios.DeliveredVsEmptyDrain, where(r.Servers, r.Machine))
}
