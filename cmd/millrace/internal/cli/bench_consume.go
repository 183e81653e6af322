package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/cmd/millrace/internal/bench"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
)

func (a *app) benchConsume() *cobra.Command {
	var cfg bench.ConsumeConfig
	return a.benchKind(benchSpec{
		use: "consume", short: "Measure consumers, with poison and without, and replay",
		long: `Consumes topics with a handler that writes one row an event through the inbox and
with one that keeps a Redis view, in turns with a loop of one transaction a message and
with Watermill's router on watermill-kafka's subscriber. Topics with poison show what it
costs the other messages. SQL and Redis are asked afterwards whether each effect is there
once. Then dead letters are sent back as fast as they go. Without addresses it starts a
Postgres that syncs to disk, an Apache Kafka and a Redis, and throws them away at the
end. The exit code is 1 if an effect of ours was lost or doubled.`,
		example: `  millrace bench consume --rows 60000
  millrace bench consume --rows 200000 --rounds 5 --json
  millrace bench consume --rows 60000 --alone`,
		servers: &cfg.Servers, validate: func() error { return cfg.Validate() }, redis: true,
		flags: func(f *pflag.FlagSet) {
			f.IntVar(&cfg.Rows, "rows", 60_000, "messages of each topic")
			f.IntVar(&cfg.Rounds, "rounds", 3, "rounds of each consumer")
			f.IntVar(&cfg.Payload, "payload", 300, "bytes of each payload")
			f.IntVar(&cfg.Keys, "keys", 10_000, "number of keys")
			f.IntVar(&cfg.Every, "poison-every", 100, "one message in so many is poison, in the topics that have any")
			f.IntVar(&cfg.DeadLetters, "dead-letters", 20_000, "dead letters to replay in each round")
			f.DurationVar(&cfg.Cap, "cap", 5*time.Second, "longest turn of a rival; it is measured by what it did until then")
			f.BoolVar(&cfg.Alone, "alone", false, "without rivals")
		},
		run:    func(ctx context.Context, l *progress.Line) (benchReport, error) { return bench.Consume(ctx, cfg, l) },
		checks: func(r benchReport) bench.Checks { return r.(*bench.ConsumeReport).Checks },
	})
}
