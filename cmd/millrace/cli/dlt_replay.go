package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/cmd/millrace/progress"
)

// replayReport is what dlt replay --json prints.
type replayReport struct {
	ID       string `json:"replay_id"`
	DryRun   bool   `json:"dry_run"`
	Letters  int    `json:"letters"`  // that were not replayed before
	Replayed int    `json:"replayed"` // or would be, in a dry run
	Filtered int    `json:"filtered"`
	Capped   int    `json:"capped"`
	Refused  int    `json:"refused"`
}

func (a *app) dltReplay() *cobra.Command {
	var d dltFlags
	var rate int
	var yes bool
	return a.command(spec{
		use: "replay", short: "Send dead letters back to the group that failed",
		long: `Sends the dead letters that were not replayed yet back to their source topic, with
their own key, value, headers and partition. Only the group that failed handles
them again. Without --yes it only says what it would do. An interrupted replay
goes on where it stopped when it is called again.`,
		example: `  millrace dlt replay --topic notification.v1
  millrace dlt replay --topic notification.v1 --limit 1000 --rate 50 --yes`,
		settings: dltUse,
		flags: func(f *pflag.FlagSet) {
			d.add(f)
			f.IntVar(&d.limit, "limit", 0, "most letters, 0 for all")
			f.IntVar(&rate, "rate", 50, "letters a second, -1 for no limit")
			f.BoolVar(&yes, "yes", false, "do it")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if d.limit < 0 || rate < -1 || rate == 0 {
				return usageError{errors.New("--limit must not be negative, --rate must be positive or -1")}
			}
			res, err := c.replay(ctx, d, rate, yes)
			if err != nil {
				return err
			}
			return c.printReplay(res, d.asJSON)
		},
	})
}

func (c *call) replay(ctx context.Context, d dltFlags, rate int, execute bool) (consumer.ReplayResult, error) {
	r, err := c.openLetters(ctx)
	if err != nil {
		return consumer.ReplayResult{}, err
	}
	defer r.Close()
	line := progress.New(c.Err)
	defer line.Done()
	cfg := d.config(r)
	cfg.Execute, cfg.Rate, cfg.Max = execute, rate, d.limit
	cfg.OnProgress = func(p consumer.ReplayResult) {
		line.Show("%d of %d offsets, %d replayed", p.Scanned, p.Total, p.Replayed)
	}
	if !execute {
		return consumer.Replay(ctx, cfg)
	}
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-replay"})
	if err != nil {
		return consumer.ReplayResult{}, err
	}
	cfg.Publisher = pub
	res, err := consumer.Replay(ctx, cfg)
	c.log.Info("replay", "id", res.ID, "topic", cfg.Topic, "group", d.group, "replayed", res.Replayed)
	return res, errors.Join(err, pub.Close())
}

func (c *call) printReplay(res consumer.ReplayResult, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, replayReport{res.ID, res.DryRun, res.Letters, res.Replayed, res.Filtered, res.Capped, res.Refused})
	}
	verb := "replayed"
	if res.DryRun {
		verb = "would replay"
	}
	_, err := fmt.Fprintf(c.Out, "%s %d of %d dead letters (%d not chosen, %d replayed too often, %d refused)\n",
		verb, res.Replayed, res.Letters, res.Filtered, res.Capped, res.Refused)
	if res.DryRun && res.Replayed > 0 {
		fmt.Fprintln(c.Err, "nothing was sent: give --yes to do it")
	}
	return err
}
