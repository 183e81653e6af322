package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer/audit"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

func (a *app) dltAudit() *cobra.Command {
	var topic string
	var limit int
	var asJSON bool
	return a.command(spec{
		use: "audit", short: "List who did what to dead letters, and why",
		long: `Lists the acts on dead letters, the newest first. OUTCOME is running, done, failed,
or abandoned if the process that acted is gone.`,
		example: `  millrace dlt audit --postgres postgres://app@localhost/app
  millrace dlt audit --dlt-topic notification.v1.dlt --json`,
		settings: config.Use{Required: []config.Name{config.Postgres}},
		flags: func(f *pflag.FlagSet) {
			f.StringVar(&topic, "dlt-topic", "", "only acts on this dead-letter topic (default all)")
			f.IntVar(&limit, "limit", 50, "most acts")
			f.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, c *call, _ []string) (err error) {
			if limit < 1 {
				return usageError{fmt.Errorf("--limit: is %d, must be positive", limit)}
			}
			d := &desk{}
			defer func() { err = errors.Join(err, d.close()) }()
			if err := d.openBook(ctx, c.cfg.Postgres); err != nil {
				return err
			}
			acts, err := d.book.List(ctx, topic, limit)
			if err != nil {
				return err
			}
			return c.printActs(acts, asJSON)
		},
	})
}

func (c *call) printActs(acts []audit.Entry, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, acts)
	}
	if len(acts) == 0 {
		_, err := fmt.Fprintln(c.Out, "nothing was done to dead letters yet")
		return err
	}
	rows := [][]string{{"STARTED", "ACTOR", "ACTION", "TOPIC", "DONE", "OF", "OUTCOME", "FILTER", "NOTE"}}
	for _, e := range acts {
		rows = append(rows, []string{
			e.StartedAt.UTC().Format(time.RFC3339), e.Actor, string(e.Action), e.Topic, count(e.Done), count(e.Letters),
			e.Outcome, oneLine(string(e.Filter)), oneLine(e.Note),
		})
	}
	return printTable(c.Out, rows)
}
