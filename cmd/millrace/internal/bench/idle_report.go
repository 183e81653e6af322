package bench

import (
	"fmt"

	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// IdleReport is what bench idle --json prints. Its keys are part of the interface.
type IdleReport struct {
	CPUPercent float64      `json:"cpu_percent"` // of one core, the relay's process
	Queries    float64      `json:"queries_per_second"`
	Listening  bool         `json:"listening"` // whether the relay waited for a wake-up at the end of the last round
	Wake       Spread       `json:"wake_ms"`   // from a commit to the consumer while the relay sleeps
	Results    []idleResult `json:"results"`
	Config     IdleConfig   `json:"config"`

	Servers servers.Names `json:"servers"`
	Machine Machine       `json:"machine"`

	Nobody, Relay idleResult `json:"-"`
}

// idleResult is one state of the database over the rounds.
type idleResult struct {
	Name    string `json:"name"`
	CPU     Spread `json:"cpu_percent"`
	Queries Spread `json:"queries_per_second"` // transactions that Postgres counted in the database
	RSS     Spread `json:"peak_rss_mib"`
	Note    string `json:"note"`
}

// finish sums up. Queries are the relay's own: less what the database does alone.
func (r *IdleReport) finish(g *serverGroup) {
	r.CPUPercent = r.Relay.CPU.Median
	r.Queries = round3(max(r.Relay.Queries.Median-r.Nobody.Queries.Median, 0))
	r.Nobody.Note, r.Relay.Note = "the same span without a relay", "`millrace relay` as a process of its own, leading, nothing to deliver"
	r.Results = []idleResult{r.Relay, r.Nobody}
	r.Machine = g.watch.stop()
}

// Table is the report for people: rows of cells, the head first.
func (r *IdleReport) Table() [][]string {
	rows := [][]string{{"NAME", "CPU %", "MIN", "MAX", "QUERIES/S", "MIN", "MAX", "NOTE"}}
	n := func(f float64) string { return fmt.Sprintf("%.2f", f) }
	for _, x := range r.Results {
		rows = append(rows, []string{x.Name, n(x.CPU.Median), n(x.CPU.Min), n(x.CPU.Max), n(x.Queries.Median), n(x.Queries.Min), n(x.Queries.Max), x.Note})
	}
	return rows
}

// Summary says what the table's figures are.
func (r *IdleReport) Summary() string {
	return fmt.Sprintf("medians of %d rounds of %gs; waiting for a wake-up: %t; commit to consumer while it is idle: %.1f ms (max %.1f); %s",
		r.Config.Rounds, r.Config.Seconds, r.Listening, r.Wake.Median, r.Wake.Max, where(r.Servers, r.Machine))
}
