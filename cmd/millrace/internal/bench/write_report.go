package bench

import (
	"fmt"
	"strconv"

	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// WriteReport is what bench write --json prints. Its keys are part of the
// interface.
type WriteReport struct {
	Ratios  WriteRatios    `json:"ratios"`
	Results []*writeResult `json:"results"`
	Config  WriteConfig    `json:"config"`
	Servers servers.Names  `json:"servers"`
	Machine Machine        `json:"machine"`
}

// WriteRatios are transactions per second by those without an outbox, medians
// over the rounds of the ratio within each round.
type WriteRatios struct {
	WithVsWithout float64               `json:"with_vs_without"` // Writer.Append, at the number of clients where it is smallest
	At            map[string]WriteRatio `json:"at"`              // by number of clients
}

// WriteRatio is one number of clients.
type WriteRatio struct {
	WithVsWithout         Spread `json:"with_vs_without"`
	UnpreparedVsWithout   Spread `json:"unprepared_vs_without"`
	EntityWriterVsWithout Spread `json:"entity_writer_vs_without"`
	CommitVsWithout       Spread `json:"entity_writer_commit_vs_without"`
	CommitVsStatement     Spread `json:"entity_writer_commit_vs_without_transaction"`
}

// writeResult is one variant's rounds with one number of clients, in
// transactions per second.
type writeResult struct {
	Name       string `json:"name"`
	Clients    int    `json:"clients"`
	RoundTrips int    `json:"round_trips"` // of one transaction
	Spread
	Milliseconds float64 `json:"ms_per_transaction"` // of one client, by the median
	Note         string  `json:"note"`
}

func (r *writeResult) add(perSecond float64) {
	r.Spread.add(round1(perSecond))
	if r.Median > 0 {
		r.Milliseconds = round3(1000 * float64(r.Clients) / r.Median)
	}
}

func newWriteReport(cfg WriteConfig, g *serverGroup, results []*writeResult) *WriteReport {
	rep := &WriteReport{
		Ratios:  WriteRatios{At: map[string]WriteRatio{}},
		Results: results, Config: cfg, Servers: g.set.Names, Machine: g.watch.stop(),
	}
	for _, clients := range cfg.Clients {
		by := map[string]Spread{}
		for _, r := range results {
			if r.Clients == clients {
				by[r.Name] = r.Spread
			}
		}
		at := WriteRatio{
			WithVsWithout:         paired(by[nameAppend], by[nameWithout]),
			UnpreparedVsWithout:   paired(by[nameUnprepared], by[nameWithout]),
			EntityWriterVsWithout: paired(by[nameEntityWriter], by[nameWithout]),
			CommitVsWithout:       paired(by[nameCommit], by[nameWithout]),
			CommitVsStatement:     paired(by[nameCommit], by[nameStatement]),
		}
		rep.Ratios.At[strconv.Itoa(clients)] = at
		if lowest := &rep.Ratios.WithVsWithout; *lowest == 0 || at.WithVsWithout.Median < *lowest {
			*lowest = at.WithVsWithout.Median
		}
	}
	return rep
}

// Table is the report for people: rows of cells, the head first.
func (r *WriteReport) Table() [][]string {
	rows := [][]string{{"CLIENTS", "NAME", "TX/S", "MIN", "MAX", "OF WITHOUT", "ROUND TRIPS", "MS", "NOTE"}}
	n := func(f float64) string { return fmt.Sprintf("%.0f", f) }
	for _, x := range r.Results {
		at, share := r.Ratios.At[strconv.Itoa(x.Clients)], ""
		switch x.Name {
		case nameAppend:
			share = fmt.Sprint(at.WithVsWithout.Median)
		case nameUnprepared:
			share = fmt.Sprint(at.UnpreparedVsWithout.Median)
		case nameEntityWriter:
			share = fmt.Sprint(at.EntityWriterVsWithout.Median)
		case nameCommit:
			share = fmt.Sprint(at.CommitVsWithout.Median)
		}
		rows = append(rows, []string{
			strconv.Itoa(x.Clients), x.Name, n(x.Median), n(x.Min), n(x.Max), share, strconv.Itoa(x.RoundTrips), fmt.Sprint(x.Milliseconds), x.Note,
		})
	}
	return rows
}

// Summary says what the table's figures are.
func (r *WriteReport) Summary() string {
	return fmt.Sprintf("committed transactions per second, medians of %d rounds of %gs, payload %d bytes; %s",
		r.Config.Rounds, r.Config.Seconds, r.Config.Payload, where(r.Servers, r.Machine))
}
