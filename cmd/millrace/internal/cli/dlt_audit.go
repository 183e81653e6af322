package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter/audit"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

func (a *app) dltAudit() *cobra.Command {
	var topic string
	var limit int
	var asJSON bool
	return a.command(spec{
		use: "audit", short: "List who did what to dead letters, and why",
		long: `Lists the operations on dead letters, the newest first. OUTCOME is running, done,
failed, or abandoned if the process is gone.`,
		example: `  millrace dlt audit --postgres postgres://app@localhost/app
  millrace dlt audit --dlt-topic notification.v1.dlt --json`,
		settings: config.Use{Required: []config.Name{config.Postgres}},
		flags: func(f *pflag.FlagSet) {
			f.StringVar(&topic, "dlt-topic", "", "only operations on this dead-letter topic (default all)")
			f.IntVar(&limit, "limit", 50, "list at most this many")
			f.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, c *call, _ []string) (err error) {
			if limit < 1 {
				return usageError{fmt.Errorf("--limit: is %d, must be positive", limit)}
			}
			d := &deadLetters{}
			defer func() { err = errors.Join(err, d.close()) }()
			if err := d.openAudit(ctx, c.cfg.Postgres); err != nil {
				return err
			}
			entries, err := d.audit.List(ctx, topic, limit)
			if err != nil {
				return err
			}
			return c.printEntries(entries, asJSON)
		},
	})
}

func (c *call) printEntries(entries []audit.Entry, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, entries)
	}
	if len(entries) == 0 {
		_, err := fmt.Fprintln(c.Out, "nothing was done to dead letters yet")
		return err
	}
	rows := [][]string{{"STARTED", "ACTOR", "ACTION", "TOPIC", "RESOLVED", "OF", "OUTCOME", "FILTER", "NOTE"}}
	for _, e := range entries {
		rows = append(rows, []string{
			e.StartedAt.UTC().Format(time.RFC3339), e.Actor, string(e.Action), e.Topic, count(e.Resolved), count(e.Open),
			e.Outcome, oneLine(string(e.Filter)), oneLine(e.Note),
		})
	}
	return printTable(c.Out, rows)
}
