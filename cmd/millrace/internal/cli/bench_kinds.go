package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/bench"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// benchReport is what a benchmark found.
type benchReport interface {
	Table() [][]string
	Summary() string
}

// benchSpec is one kind of benchmark. servers and validate are looked at once
// the flags are read.
type benchSpec struct {
	use, short, long, example string

	flags    func(*pflag.FlagSet)
	servers  *servers.Config
	validate func() error
	run      func(context.Context, *progress.Line) (benchReport, error)
	checks   func(benchReport) bench.Checks // nil if nothing is delivered
	redis    bool                           // it needs one
}

const benchServersText = ` Without addresses it starts a
Postgres that syncs to disk and an Apache Kafka, and throws them away at the end.`

func (a *app) benchKind(b benchSpec) *cobra.Command {
	var asJSON, twin bool
	optional := []config.Name{config.Postgres, config.Kafka}
	if b.redis {
		optional = append(optional, config.Redis)
	}
	return a.command(spec{
		use: b.use, short: b.short, long: b.long, example: b.example,
		settings: config.Use{Optional: optional},
		flags: func(f *pflag.FlagSet) {
			b.flags(f)
			f.BoolVar(&twin, "twin", false, "use an in-process test broker; the figures say nothing about Kafka")
			f.BoolVar(&asJSON, "json", false, "print one JSON object")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if err := b.validate(); err != nil {
				return usageError{err}
			}
			*b.servers = servers.Config{Postgres: c.cfg.Postgres, Kafka: c.cfg.Kafka, Redis: c.cfg.Redis, Durable: true, Real: !twin, NoRedis: !b.redis}
			report, err := b.run(ctx, progress.New(c.Err))
			if err != nil {
				return err
			}
			if err := c.printBenchReport(report, asJSON); err != nil {
				return err
			}
			if b.checks != nil && !b.checks(report).OK() {
				return errors.New("a promise was broken: see the checks")
			}
			return nil
		},
	})
}

func (c *call) printBenchReport(r benchReport, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, r)
	}
	if err := printTable(c.Out, r.Table()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.Out, "\n%s\n", r.Summary())
	return err
}

func (a *app) benchLatency() *cobra.Command {
	var cfg bench.LatencyConfig
	return a.benchKind(benchSpec{
		use: "latency", short: "Measure the time from commit to consumer",
		long: `Lets writers change an entity and append a message at a steady pace and measures
the time from the return of COMMIT until an independent consumer has the record:
with a relay in the writers' process, with one that only polls, with one behind the
listener, with no outbox at all (produced right after the commit: the ceiling), and
with Watermill's tuned forwarder, in turns.` + benchServersText,
		example: `  millrace bench latency --rate 1000 --for 10s
  millrace bench latency --rate 1000 --for 10s --long-tx --json
  millrace bench latency --rate 0 --for 30s --alone`,
		servers: &cfg.Servers, validate: func() error { return cfg.Validate() },
		flags: func(f *pflag.FlagSet) {
			f.IntVar(&cfg.Rate, "rate", 1000, "transactions per second, over all writers; 0 = as many as they can")
			f.DurationVar(&cfg.For, "for", 10*time.Second, "length of each variant in each round")
			f.IntVar(&cfg.Rounds, "rounds", 3, "rounds of each variant")
			f.IntVar(&cfg.Writers, "writers", 8, "writers at work at once")
			f.IntVar(&cfg.Payload, "payload", 300, "bytes of each payload")
			f.IntVar(&cfg.Keys, "keys", 1000, "number of entities")
			f.BoolVar(&cfg.Alone, "alone", false, "without the forwarder")
			f.DurationVar(&cfg.Age, "age", 0, "with --long-tx: time in_process alone, after writers have written for so long beside the open transactions")
			f.BoolVar(&cfg.LongTx, "long-tx", false, "run each variant also beside a write transaction open in another database and a repeatable-read snapshot")
		},
		run:    func(ctx context.Context, l *progress.Line) (benchReport, error) { return bench.Latency(ctx, cfg, l) },
		checks: func(r benchReport) bench.Checks { return r.(*bench.LatencyReport).Checks },
	})
}

func (a *app) benchWrite() *cobra.Command {
	var cfg bench.WriteConfig
	return a.benchKind(benchSpec{
		use: "write", short: "Measure what the outbox costs its writers",
		long: `Counts committed transactions per second that change an entity: without an outbox
message, with one (prepared store, and not), with entity and message in one statement
in a transaction and as one, the entity alone as one statement, and an empty
transaction to show what BEGIN and COMMIT take, in turns. No relay runs beside it.` + benchServersText,
		example: `  millrace bench write --clients 1,8,32
  millrace bench write --clients 8 --for 10s --rounds 5 --json`,
		servers: &cfg.Servers, validate: func() error { return cfg.Validate() },
		flags: func(f *pflag.FlagSet) {
			f.IntSliceVar(&cfg.Clients, "clients", []int{1, 8, 32}, "numbers of clients at work at once")
			f.DurationVar(&cfg.For, "for", 3*time.Second, "length of each measurement")
			f.IntVar(&cfg.Rounds, "rounds", 3, "rounds of each variant")
			f.IntVar(&cfg.Payload, "payload", 300, "bytes of each payload and of each entity")
			f.IntVar(&cfg.Keys, "keys", 10_000, "number of entities")
		},
		run: func(ctx context.Context, l *progress.Line) (benchReport, error) { return bench.Write(ctx, cfg, l) },
	})
}

func (a *app) benchIdle() *cobra.Command {
	var cfg bench.IdleConfig
	return a.benchKind(benchSpec{
		use: "idle", short: "Measure what a relay costs that has nothing to do",
		long: `Starts millrace relay as a process of its own on an empty backlog and measures its
processor time, the transactions that Postgres counts, and how fast it wakes.` + benchServersText,
		example: `  millrace bench idle --for 20s
  millrace bench idle --for 1m --rounds 5 --json`,
		servers: &cfg.Servers, validate: func() error { return cfg.Validate() },
		flags: func(f *pflag.FlagSet) {
			f.DurationVar(&cfg.For, "for", 20*time.Second, "length of each measurement")
			f.IntVar(&cfg.Rounds, "rounds", 3, "rounds")
			f.StringVar(&cfg.Program, "program", "", "millrace program to measure (default this one)")
		},
		run: func(ctx context.Context, l *progress.Line) (benchReport, error) { return bench.Idle(ctx, cfg, l) },
	})
}

func (a *app) benchHistory() *cobra.Command {
	var cfg bench.HistoryConfig
	return a.benchKind(benchSpec{
		use: "history", short: "Measure what the length of log and backlog costs",
		long: `Compares a log full of delivered rows with an empty one (latency and drain rate),
and a large backlog with a small one, in turns on two databases of one server. A
backlog is written in one transaction before a relay that runs already.` + benchServersText,
		example: `  millrace bench history --rows 1000000
  millrace bench history --rows 20000000 --json`,
		servers: &cfg.Servers, validate: func() error { return cfg.Validate() },
		flags: func(f *pflag.FlagSet) {
			f.IntVar(&cfg.Rows, "rows", 1_000_000, "delivered rows of the long log")
			f.IntVar(&cfg.Large, "large", 1_000_000, "rows of the large backlog")
			f.IntVar(&cfg.Small, "small", 10_000, "rows of the small backlog")
			f.IntVar(&cfg.Rate, "rate", 1000, "transactions per second while the latency is measured")
			f.DurationVar(&cfg.For, "for", 10*time.Second, "length of each measurement of the latency")
			f.IntVar(&cfg.Rounds, "rounds", 3, "rounds")
			f.IntVar(&cfg.Payload, "payload", 300, "bytes of each payload")
			f.IntVar(&cfg.Keys, "keys", 1000, "number of keys and of entities")
		},
		run:    func(ctx context.Context, l *progress.Line) (benchReport, error) { return bench.History(ctx, cfg, l) },
		checks: func(r benchReport) bench.Checks { return r.(*bench.HistoryReport).Checks },
	})
}
