package bench

import (
	"fmt"

	"github.com/millrace-go/millrace/cmd/millrace/internal/latency"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// LatencyReport is what bench latency --json prints. Its keys are part of the
// interface. LatencyMS and Checks are those of the relay in the writers' process,
// LongTxMS the same beside long transactions.
type LatencyReport struct {
	LatencyMS Quantiles          `json:"latency_ms"`
	LongTxMS  *Quantiles         `json:"long_tx_latency_ms,omitempty"`
	Ratios    map[string]float64 `json:"ratios"`
	Checks    Checks             `json:"checks"` // of all relay variants
	Results   []*latencyResult   `json:"results"`
	Config    LatencyConfig      `json:"config"`
	Servers   servers.Names      `json:"servers"`
	Machine   Machine            `json:"machine"`
}

// Quantiles are medians over the rounds, in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"` // of all rounds
}

// latencyResult is one variant's rounds.
type latencyResult struct {
	Name        string `json:"name"`
	LongTx      bool   `json:"long_tx"`
	P50         Spread `json:"p50_ms"`
	P99         Spread `json:"p99_ms"`
	Max         Spread `json:"max_ms"`
	Rate        Spread `json:"rate"`        // transactions per second that the writers reached
	CatchUp     Spread `json:"catch_up_ms"` // from the end of writing until everything had arrived
	Committed   []int  `json:"committed"`
	Undelivered []int  `json:"undelivered"` // when the time to arrive was up; they count with the time waited
	Checks      Checks `json:"checks"`
	Note        string `json:"note"`
}

func (r *latencyResult) add(t *trial) {
	r.P50.add(latency.Milliseconds(t.latency.Quantile(0.5)))
	r.P99.add(latency.Milliseconds(t.latency.Quantile(0.99)))
	r.Max.add(latency.Milliseconds(t.latency.Max()))
	r.Rate.add(round1(t.rate))
	r.CatchUp.add(latency.Milliseconds(t.catchUp))
	r.Committed = append(r.Committed, t.committed)
	r.Undelivered = append(r.Undelivered, t.undelivered)
	r.Checks.Lost += t.verdict.Lost + t.verdict.Ghosts
	r.Checks.Reordered += t.verdict.Reordered
	r.Checks.Duplicates += t.verdict.Duplicates
}

func (r *latencyResult) quantiles() Quantiles {
	return Quantiles{r.P50.Median, r.P99.Median, r.Max.Max}
}

func newLatencyReport(cfg LatencyConfig, g *serverGroup, results []*latencyResult) *LatencyReport {
	rep := &LatencyReport{Ratios: map[string]float64{}, Results: results, Config: cfg, Servers: g.set.Names, Machine: g.watch.stop()}
	by := map[string]*latencyResult{}
	for _, r := range results {
		name := r.Name
		if r.LongTx {
			name += " long_tx"
		}
		by[name] = r
		if r.Name != nameTuned && r.Name != nameDirect {
			rep.Checks = rep.Checks.plus(r.Checks)
		}
	}
	ours := by[nameInProcess]
	rep.LatencyMS = ours.quantiles()
	if rival := by[nameTuned]; rival != nil {
		rep.Ratios["forwarder_tuned_vs_millrace_p50"] = ratio(rival.P50, ours.P50)
		rep.Ratios["forwarder_tuned_vs_millrace_p99"] = ratio(rival.P99, ours.P99)
	}
	if ceiling := by[nameDirect]; ceiling != nil {
		rep.Ratios["millrace_vs_direct_p50"] = ratio(ours.P50, ceiling.P50)
		rep.Ratios["millrace_vs_direct_p99"] = ratio(ours.P99, ceiling.P99)
	}
	if held := by[nameInProcess+" long_tx"]; held != nil {
		q := held.quantiles()
		rep.LongTxMS = &q
		rep.Ratios["long_tx_vs_without_p99"] = ratio(held.P99, ours.P99)
	}
	return rep
}

// Table is the report for people: rows of cells, the head first.
func (r *LatencyReport) Table() [][]string {
	rows := [][]string{{"NAME", "LONG TX", "P50", "P99", "P99 MIN", "P99 MAX", "MAX", "TX/S", "CATCH UP", "LATE", "LOST", "REORDERED", "DUPLICATES", "NOTE"}}
	ms := func(f float64) string { return fmt.Sprintf("%.2f", f) }
	for _, x := range r.Results {
		late := 0
		for _, n := range x.Undelivered {
			late += n
		}
		rows = append(rows, []string{
			x.Name, fmt.Sprint(x.LongTx), ms(x.P50.Median), ms(x.P99.Median), ms(x.P99.Min), ms(x.P99.Max), ms(x.Max.Max), fmt.Sprintf("%.0f", x.Rate.Median), ms(x.CatchUp.Median),
			fmt.Sprint(late), fmt.Sprint(x.Checks.Lost), fmt.Sprint(x.Checks.Reordered), fmt.Sprint(x.Checks.Duplicates), x.Note,
		})
	}
	return rows
}

// Summary says what the table's figures are.
func (r *LatencyReport) Summary() string {
	asked := "at full speed"
	if r.Config.Rate > 0 {
		asked = fmt.Sprintf("asked for %d transactions/s", r.Config.Rate)
	}
	return fmt.Sprintf("milliseconds from the return of COMMIT to an independent consumer, medians of %d rounds of %gs; %d writers, %s; %s",
		r.Config.Rounds, r.Config.Seconds, r.Config.Writers, asked, where(r.Servers, r.Machine))
}

// where names servers and machine in one line.
func where(s servers.Names, m Machine) string {
	text := fmt.Sprintf("postgres %s, kafka %s; %d x %s", s.Postgres, s.Kafka, m.CPUs, m.CPU)
	if m.StealPercent != nil {
		text += fmt.Sprintf("; %.1f%% of the time stolen", *m.StealPercent)
	}
	return text
}
