package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/bench"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

func (a *app) benchCache() *cobra.Command {
	var cfg bench.CacheConfig
	var asJSON, twin bool
	return a.command(spec{
		use: "cache", short: "Measure the cache beside a bare GET and go-redis/cache",
		long: `Reads what is cached in turns: with a bare GET, with the cache, with go-redis/cache,
and from the near layer; puts newer versions in pipelines beside plain SETs; and lets
many readers ask for a cold key at once, counting the loads. In the end requests come
at a steady rate while Redis is flushed again and again: the exit code is 1 if one of
them failed, or if more loads were at work at once than the 32 that are promised.
Without an address it starts a Redis and throws it away at the end. A Redis that is
given is written to, under the keys bench:, near:, view:, storm:, flush:, plain:,
rival: and q:bench:, and it is not flushed: it loses the keys flush: instead.`,
		example: `  millrace bench cache
  millrace bench cache --reads 50000 --rounds 5 --json`,
		settings: config.Use{Optional: []config.Name{config.Redis}},
		flags: func(f *pflag.FlagSet) {
			f.IntVar(&cfg.Reads, "reads", 20_000, "reads of each variant in each round")
			f.IntVar(&cfg.Puts, "puts", 100_000, "puts of each variant in each round")
			f.IntVar(&cfg.Readers, "readers", 1000, "readers of the cold key")
			f.IntVar(&cfg.Rounds, "rounds", 3, "rounds of each variant")
			f.IntVar(&cfg.Keys, "keys", 1000, "number of keys")
			f.IntVar(&cfg.Payload, "payload", 300, "bytes of each entry's JSON, about")
			f.IntVar(&cfg.FlushRate, "flush-rate", 2000, "requests per second while Redis is flushed")
			f.DurationVar(&cfg.FlushFor, "flush-for", 3*time.Second, "length of that, for each round")
			f.BoolVar(&twin, "twin", false, "use an in-process test server; the figures say nothing about Redis")
			f.BoolVar(&asJSON, "json", false, "print one JSON object")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			cfg.Servers = servers.Config{Redis: c.cfg.Redis, Real: !twin}
			report, err := bench.Cache(ctx, cfg, progress.New(c.Err))
			if err != nil {
				return err
			}
			if err := c.printBenchReport(report, asJSON); err != nil {
				return err
			}
			if !report.Flush.OK() {
				return errors.New("a promise was broken: see flush")
			}
			return nil
		},
	})
}
