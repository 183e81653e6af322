package bench

import (
	"slices"
	"time"

	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// Report is what bench drain --json prints. Its keys are part of the interface.
type Report struct {
	Ratios  Ratios        `json:"ratios"`
	Checks  Checks        `json:"checks"` // of the relay, over all rounds
	Results []*result     `json:"results"`
	Config  Config        `json:"config"`
	Servers servers.Names `json:"servers"`
	Machine Machine       `json:"machine"`
}

// Ratios are medians of the relay divided by medians of the rivals.
type Ratios struct {
	VsForwarder      float64 `json:"vs_forwarder"`
	VsForwarderTuned float64 `json:"vs_forwarder_tuned"`
	VsCeiling        float64 `json:"vs_ceiling"`
}

// Checks count what the independent reader found wrong. Lost includes records
// that nobody committed.
type Checks struct {
	Lost       int `json:"lost"`
	Reordered  int `json:"reordered"`
	Duplicates int `json:"duplicates"`
}

// OK reports that nothing was wrong.
func (c Checks) OK() bool { return c == Checks{} }

// result is one rival's rounds, in messages per second.
type result struct {
	Name      string    `json:"name"`
	Rows      int       `json:"rows"`
	Median    float64   `json:"median"`
	Min       float64   `json:"min"`
	Max       float64   `json:"max"`
	Rounds    []float64 `json:"rounds"`
	Delivered []int     `json:"delivered"` // rows of each round; fewer than Rows if the time was up
	Capped    bool      `json:"capped"`    // the time was up in a round
	Checks    Checks    `json:"checks"`
	PeakRSS   []float64 `json:"peak_rss_mib,omitempty"` // of the relay's process in each round
	Note      string    `json:"note,omitempty"`
}

func (r *result) add(delivered int, took time.Duration, rows int) {
	r.Rounds = append(r.Rounds, round1(float64(delivered)/took.Seconds()))
	r.Delivered = append(r.Delivered, delivered)
	r.Capped = r.Capped || delivered < rows
	sorted := slices.Sorted(slices.Values(r.Rounds))
	r.Min, r.Max = sorted[0], sorted[len(sorted)-1]
	r.Median = round1((sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2)
}

func newReport(cfg Config, g *serverGroup, results []*result) *Report {
	by := map[string]*result{}
	for _, r := range results {
		by[r.Name] = r
	}
	relay := by[nameRelay]
	ratio := func(rival string) float64 {
		if r := by[rival]; r != nil && r.Median > 0 {
			return float64(int(relay.Median/r.Median*1000+0.5)) / 1000
		}
		return 0
	}
	return &Report{
		Ratios:  Ratios{ratio(nameForwarder), ratio(nameTuned), ratio(nameCeiling)},
		Checks:  relay.Checks,
		Results: results, Config: cfg, Servers: g.set.Names, Machine: g.watch.stop(),
	}
}
