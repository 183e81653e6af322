package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/bench"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
)

func (a *app) bench() *cobra.Command {
	return group("bench", "Measure beside the rivals, on real servers", a.benchDrain(), a.benchLatency(), a.benchWrite(), a.benchIdle(), a.benchHistory(), a.benchLocks(), a.benchConsume(), a.benchCache())
}

func (a *app) benchDrain() *cobra.Command {
	var cfg bench.Config
	var asJSON, twin bool
	return a.command(spec{
		use: "drain", short: "Measure how fast a backlog reaches Kafka",
		long: `Fills the outbox with a backlog and lets the relay, Watermill's forwarder (by
default and tuned), and a loop without guarantees carry it to Kafka in turns. An
independent reader checks every round. Without addresses it starts a Postgres
that syncs to disk and an Apache Kafka, and throws them away at the end. The
Postgres must not hold an outbox. The exit code is 1 if the relay lost, reordered
or doubled anything.`,
		example: `  millrace bench drain --rows 200000
  millrace bench drain --rows 1000000 --rounds 5 --json
  millrace bench drain --rows 1000000 --payload 1024 --child --alone`,
		settings: config.Use{Optional: []config.Name{config.Postgres, config.Kafka}},
		flags: func(f *pflag.FlagSet) {
			f.IntVar(&cfg.Rows, "rows", 100_000, "rows of the backlog")
			f.IntVar(&cfg.Rounds, "rounds", 3, "rounds of each rival")
			f.IntVar(&cfg.Payload, "payload", 300, "bytes of each payload")
			f.IntVar(&cfg.Keys, "keys", 1000, "number of keys")
			f.DurationVar(&cfg.Cap, "cap", 15*time.Second, "longest round; slower rivals are measured by what they did until then")
			f.BoolVar(&cfg.Child, "child", false, "run the relay as a process of its own and tell its peak memory")
			f.BoolVar(&cfg.Alone, "alone", false, "without rivals")
			f.StringVar(&cfg.Program, "program", "", "millrace program of --child (default this one)")
			f.BoolVar(&twin, "twin", false, "use an in-process test broker; the figures say nothing about Kafka")
			f.BoolVar(&asJSON, "json", false, "print one JSON object")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			cfg.Servers.Postgres, cfg.Servers.Kafka = c.cfg.Postgres, c.cfg.Kafka
			cfg.Servers.Durable, cfg.Servers.Real, cfg.Servers.NoRedis = true, !twin, true
			report, err := bench.Drain(ctx, cfg, progress.New(c.Err))
			if err != nil {
				return err
			}
			if err := c.printBench(report, asJSON); err != nil {
				return err
			}
			if !report.Checks.OK() {
				return errors.New("the relay broke a promise: see the checks")
			}
			return nil
		},
	})
}

func (c *call) printBench(r *bench.Report, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, r)
	}
	rows := [][]string{{"NAME", "MEDIAN", "MIN", "MAX", "LOST", "REORDERED", "DUPLICATES", "NOTE"}}
	for _, x := range r.Results {
		note := x.Note
		if len(x.PeakRSS) > 0 {
			note += fmt.Sprintf("; peak memory %v MiB", x.PeakRSS)
		}
		if x.Capped {
			note += fmt.Sprintf("; time was up after %v of %d rows", x.Delivered, x.Rows)
		}
		rows = append(rows, []string{
			x.Name, rate(x.Median), rate(x.Min), rate(x.Max),
			count(int64(x.Checks.Lost)), count(int64(x.Checks.Reordered)), count(int64(x.Checks.Duplicates)), note,
		})
	}
	if err := printTable(c.Out, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.Out, "\nmessages per second, %d rows of %d bytes, %d keys; postgres %s, kafka %s; %d x %s; stolen %s\n"+
		"relay : forwarder %.1f   relay : tuned forwarder %.1f   relay : ceiling %.2f\n",
		r.Config.Rows, r.Config.Payload, r.Config.Keys, r.Servers.Postgres, r.Servers.Kafka, r.Machine.CPUs, strings.TrimSpace(r.Machine.CPU), percent(r.Machine.StealPercent),
		r.Ratios.VsForwarder, r.Ratios.VsForwarderTuned, r.Ratios.VsCeiling)
	return err
}

func rate(perSecond float64) string { return fmt.Sprintf("%.0f", perSecond) }

func percent(p *float64) string {
	if p == nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f%%", *p)
}
