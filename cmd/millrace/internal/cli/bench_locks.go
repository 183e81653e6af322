package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/bench"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

func (a *app) benchLocks() *cobra.Command {
	var cfg bench.LocksConfig
	var asJSON bool
	return a.command(spec{
		use: "locks", short: "Measure the locks of jobs in Postgres and in Redis",
		long: `Lets workers take and free a lock each, over and over: in Postgres, in Redis, with
bsm/redislock, and with the statements of ShedLock's JDBC provider, in turns. Without
addresses it starts a Postgres that syncs to disk and a Redis, and throws them away at
the end.`,
		example: `  millrace bench locks --workers 16
  millrace bench locks --workers 16 --for 5s --rounds 5 --json`,
		settings: config.Use{Optional: []config.Name{config.Postgres, config.Redis}},
		flags: func(f *pflag.FlagSet) {
			f.IntVar(&cfg.Workers, "workers", 16, "workers at work at once")
			f.DurationVar(&cfg.For, "for", 3*time.Second, "length of each store in each round")
			f.IntVar(&cfg.Rounds, "rounds", 3, "rounds of each store")
			f.BoolVar(&asJSON, "json", false, "print one JSON object")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			cfg.Servers = servers.Config{Postgres: c.cfg.Postgres, Redis: c.cfg.Redis, Durable: true, Real: true}
			report, err := bench.Locks(ctx, cfg, progress.New(c.Err))
			if err != nil {
				return err
			}
			return c.printBenchReport(report, asJSON)
		},
	})
}
