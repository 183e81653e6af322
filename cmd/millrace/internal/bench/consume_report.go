package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// ConsumeReport is what bench consume --json prints. Its keys are part of the
// interface.
type ConsumeReport struct {
	Transactional float64          `json:"transactional_msgs_per_s"`
	View          float64          `json:"view_msgs_per_s"`
	Ratios        ConsumeRatios    `json:"ratios"`
	Replay        float64          `json:"dlt_replay_per_s"`
	Checks        Checks           `json:"checks"` // of ours, over all rounds
	Results       []*consumeResult `json:"results"`
	Config        ConsumeConfig    `json:"config"`
	Servers       servers.Names    `json:"servers"`
	Machine       Machine          `json:"machine"`
}

// ConsumeRatios are medians of our consumer: by those of the rivals, and with
// poison by without. Fatal is the worse of the two kinds.
type ConsumeRatios struct {
	VsOneTx         float64 `json:"vs_one_tx_per_message"`
	VsStock         float64 `json:"vs_stock_router"`
	PoisonRetryable float64 `json:"poison_retryable"`
	PoisonFatal     float64 `json:"poison_fatal"`
	ViewVsStock     float64 `json:"view_vs_stock_router"`
	StockRetryable  float64 `json:"stock_poison_retryable"` // the stock router with poison by itself without
}

// consumeResult is one variant's rounds, in messages per second.
type consumeResult struct {
	Name string `json:"name"`
	Rows int    `json:"rows"`
	Spread
	Done   []int  `json:"done"`   // messages of each round; fewer than Rows if the time was up
	Capped bool   `json:"capped"` // the time was up in a round
	Checks Checks `json:"checks"`
	Note   string `json:"note"`
}

func (r *consumeResult) add(n int, took time.Duration, rows int) {
	r.Spread.add(round1(float64(n) / max(took, time.Microsecond).Seconds()))
	r.Done = append(r.Done, n)
	r.Capped = r.Capped || n < rows
}

// countEffects compares what is in the database, or in Redis, with what was to
// come there.
func (b *consumeBench) countEffects(ctx context.Context, v *consumer, r *consumeResult) error {
	want := b.cfg.Rows
	if v.from != noPoison {
		want -= b.poisonCount()
	}
	var rows, events int
	if v.view {
		want = min(b.cfg.Keys, b.cfg.Rows)
		rdb, view, closeView, err := b.openView(ctx)
		if err != nil {
			return err
		}
		defer closeView()
		for n := max(b.cfg.Rows-b.cfg.Keys, 0); n < b.cfg.Rows; n++ { // the newest of each key
			e, err := view.GetEntry(ctx, fmt.Sprintf("key-%d", n%b.cfg.Keys))
			if err == nil && e.Value.N == n {
				rows, events = rows+1, events+1
			}
		}
		_ = rdb
	} else if err := b.db.QueryRowContext(ctx, `SELECT count(*), count(DISTINCT event) FROM bench_effect`).Scan(&rows, &events); err != nil {
		return err
	}
	r.Checks.Lost += max(want-events, 0)
	r.Checks.Duplicates += rows - events + max(events-want, 0)
	return nil
}

func newConsumeReport(b *consumeBench) *ConsumeReport {
	all := append(b.results, b.replay)
	by := map[string]Spread{}
	r := &ConsumeReport{Results: all, Config: b.cfg, Servers: b.set.Names, Machine: b.watch.stop()}
	for _, x := range all {
		by[x.Name] = x.Spread
		r.Checks = r.Checks.plus(x.Checks)
	}
	ours := by[nameTransactional]
	r.Transactional, r.View, r.Replay = ours.Median, by[nameView].Median, by[nameReplay].Median
	r.Ratios = ConsumeRatios{
		VsOneTx: ratio(ours, by[nameOneTx]), VsStock: ratio(ours, by[nameStock]),
		PoisonRetryable: ratio(by[nameTransactional+"_"+string(retryable)], ours),
		PoisonFatal:     min(ratio(by[nameTransactional+"_"+string(fatal)], ours), ratio(by[nameTransactional+"_"+string(undecodable)], ours)),
		ViewVsStock:     ratio(by[nameView], by[nameStock+"_view"]),
		StockRetryable:  ratio(by[nameStock+"_retryable"], by[nameStock]),
	}
	return r
}

// Table is the report for people: rows of cells, the head first.
func (r *ConsumeReport) Table() [][]string {
	rows := [][]string{{"NAME", "MEDIAN", "MIN", "MAX", "LOST", "DUPLICATES", "NOTE"}}
	for _, x := range r.Results {
		note := x.Note
		if x.Capped {
			note += fmt.Sprintf("; time was up after %v of %d messages", x.Done, x.Rows)
		}
		n := func(f float64) string { return fmt.Sprintf("%.0f", f) }
		rows = append(rows, []string{x.Name, n(x.Median), n(x.Min), n(x.Max), fmt.Sprint(x.Checks.Lost), fmt.Sprint(x.Checks.Duplicates), note})
	}
	return rows
}

// Summary says what the table's figures are.
func (r *ConsumeReport) Summary() string {
	return fmt.Sprintf("messages per second, %d of %d bytes over %d keys, medians of %d rounds; transactional : one transaction a message %.1f   : stock router %.1f   "+
		"with retryable poison %.2f   with fatal poison %.2f; %s",
		r.Config.Rows, r.Config.Payload, r.Config.Keys, r.Config.Rounds, r.Ratios.VsOneTx, r.Ratios.VsStock, r.Ratios.PoisonRetryable, r.Ratios.PoisonFatal,
		where(r.Servers, r.Machine))
}
