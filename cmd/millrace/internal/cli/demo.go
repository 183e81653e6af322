package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/demo"
)

func (a *app) demo() *cobra.Command {
	var cfg demo.Config
	var asJSON bool
	return a.command(spec{
		use: "demo", short: "Show the whole pipeline at work and check its promises",
		long: `Starts a temporary Postgres and in-process Kafka and Redis (test servers, not the
real ones: give --real for those, or addresses), writes notifications at a rate,
relays and consumes their events, lets a few poison messages die and replays
them. Then independent readers check every promise. The exit code is 1 if one was
broken. Addresses are taken from flags only, never from the environment.`,
		example: `  millrace demo
  millrace demo --for 30s --rate 2000 --real
  millrace demo --json --kafka localhost:9092`,
		settings: config.Use{},
		flags: func(f *pflag.FlagSet) {
			f.DurationVar(&cfg.For, "for", 10*time.Second, "how long to write")
			f.IntVar(&cfg.Rate, "rate", 500, "events a second")
			f.IntVar(&cfg.Poison, "poison", 5, "messages whose handling fails until it is repaired")
			f.BoolVar(&cfg.Servers.Real, "real", false, "start real Kafka and Redis servers")
			f.StringVar(&cfg.Servers.Postgres, "postgres", "", "Postgres to use; a database is made in it and dropped")
			f.StringSliceVar(&cfg.Servers.Kafka, "kafka", nil, "Kafka brokers to use")
			f.StringVar(&cfg.Servers.Redis, "redis", "", "Redis to use")
			f.BoolVar(&asJSON, "json", false, "print one JSON object")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			cfg.Log = c.log
			r, err := demo.Run(ctx, cfg, c.Err)
			if err != nil {
				return err
			}
			return c.printDemo(r, asJSON)
		},
	})
}

func (c *call) printDemo(r *demo.Report, asJSON bool) error {
	for _, w := range r.Witnesses {
		fmt.Fprintln(c.Err, "wrong:", w)
	}
	var err error
	if asJSON {
		err = printJSON(c.Out, r)
	} else {
		err = c.printVerdicts(r)
	}
	if err == nil && !r.OK() {
		err = errors.New("a promise was broken")
	}
	return err
}

func (c *call) printVerdicts(r *demo.Report) error {
	rows := [][]string{{"PROMISE", "SEEN", "VERDICT"}}
	for _, v := range r.Verdicts() {
		rows = append(rows, []string{v.Promise, v.Seen, map[bool]string{true: "kept", false: "BROKEN"}[v.Kept]})
	}
	if err := printTable(c.Out, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.Out, "\nfrom commit to consumer: p50 %.2f ms, p99 %.2f ms\npostgres %s\nkafka    %s\nredis    %s\n",
		r.Latency.P50, r.Latency.P99, r.Servers.Postgres, r.Servers.Kafka, r.Servers.Redis)
	return err
}
