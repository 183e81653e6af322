package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

// dltStats is what dlt stats --json prints. All but total and states is of the open
// dead letters.
type dltStats struct {
	Topic        string         `json:"topic"`
	Total        int            `json:"total"`
	States       map[string]int `json:"states"`
	Keys         int            `json:"keys"`
	Oldest       *time.Time     `json:"oldest"` // null if none is open
	Newest       *time.Time     `json:"newest"`
	Partitions   map[string]int `json:"partitions"`
	Groups       map[string]int `json:"groups"`
	Dispositions map[string]int `json:"dispositions"`
	Errors       map[string]int `json:"errors"`
}

func (a *app) dltStats() *cobra.Command {
	var d dltFlags
	return a.command(spec{
		use: "stats", short: "Count dead letters by state, group, reason and error",
		long: `Counts the dead letters that the filters choose: all by their state, and the open
ones by partition, consumer group, disposition and type of error.`,
		example: `  millrace dlt stats --topic notification.v1
  millrace dlt stats --topic notification.v1 --since 24h --json`,
		settings: dltUse,
		flags:    func(f *pflag.FlagSet) { d.addTopic(f); d.addFilter(f) },
		run: func(ctx context.Context, c *call, _ []string) (err error) {
			cfg, err := d.config(time.Now())
			if err != nil {
				return usageError{err}
			}
			k, err := c.openDeadLetters(ctx, false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, k.close()) }()
			if err := k.configure(&cfg); err != nil {
				return err
			}
			st, err := deadletter.Summarize(ctx, d.deadLetterTopic(), k.reader, cfg)
			if err != nil {
				return c.explain(ctx, &d, err)
			}
			return c.printStats(d.deadLetterTopic(), &st, d.asJSON)
		},
	})
}

func (c *call) printStats(topic string, st *deadletter.Stats, asJSON bool) error {
	report := dltStats{
		Topic: topic, Total: st.Total, States: named(st.States), Keys: st.Keys, Partitions: named(st.Partitions),
		Groups: named(st.Groups), Dispositions: named(st.Dispositions), Errors: named(st.Errors),
	}
	if !st.Oldest.IsZero() {
		oldest, newest := st.Oldest.UTC(), st.Newest.UTC()
		report.Oldest, report.Newest = &oldest, &newest
	}
	if asJSON {
		return printJSON(c.Out, report)
	}
	open := st.States[deadletter.StateOpen]
	fmt.Fprintf(c.Out, "%s of %s, %d open, of %s\n", plural(st.Total, "dead letter"), topic, open, plural(st.Keys, "key"))
	if open > 0 {
		fmt.Fprintf(c.Out, "failed from %s to %s\n", report.Oldest.Format(time.RFC3339), report.Newest.Format(time.RFC3339))
	}
	rows := [][]string{{"BY", "", "DEAD LETTERS"}}
	for _, part := range []struct {
		by     string
		counts map[string]int
	}{{"state", report.States}, {"partition", report.Partitions}, {"group", report.Groups}, {"disposition", report.Dispositions}, {"error", report.Errors}} {
		for _, name := range byCount(part.counts) {
			rows = append(rows, []string{part.by, cmp.Or(name, "-"), strconv.Itoa(part.counts[name])})
		}
	}
	if len(rows) == 1 {
		return nil
	}
	return printTable(c.Out, rows)
}

// named gives the counts text keys.
func named[K comparable](counts map[K]int) map[string]int {
	out := make(map[string]int, len(counts))
	for k, n := range counts {
		out[fmt.Sprint(k)] = n
	}
	return out
}

// byCount lists the names, the most frequent first.
func byCount(counts map[string]int) []string {
	return slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
}
