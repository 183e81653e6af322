package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/schedule"
)

func (a *app) jobsHistory() *cobra.Command {
	var f schedule.RunFilter
	var outcome string
	var since time.Duration
	var asJSON bool
	return a.command(spec{
		use: "history", short: "List the runs: slot, outcome, error, trace id",
		long: `Lists runs, the latest slot first. SLOT is the time that the schedule names; BEGAN
and TOOK are by the clock of the database. FENCE rises from holder to holder of the
lock; the rows that a run wrote may carry it. OUTCOME is ok, error, panic, lost
(its lock was), stopped (with the process), crashed, running or requested.`,
		example: `  millrace jobs history --job resend-failed-notifications
  millrace jobs history --outcome error --since 24h --json`,
		settings: jobsUse,
		flags: func(flags *pflag.FlagSet) {
			flags.StringVar(&f.Job, "job", "", "only runs of this job (default all)")
			flags.StringVar(&outcome, "outcome", "", "only runs that ended like this (default all)")
			flags.DurationVar(&since, "since", 0, "only slots of this last while (default all)")
			flags.IntVar(&f.Limit, "limit", 20, "most runs")
			flags.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if f.Limit < 1 {
				return usageError{fmt.Errorf("--limit: is %d, must be positive", f.Limit)}
			}
			if since < 0 {
				return usageError{fmt.Errorf("--since: is %s, must not be negative", since)}
			}
			f.Outcome = schedule.Outcome(outcome)
			if since > 0 {
				f.Since = time.Now().Add(-since)
			}
			return c.withJobs(ctx, func(o *schedule.Operator) error {
				all, err := o.Runs(ctx, f)
				if err != nil {
					return err
				}
				return c.printRuns(all, asJSON)
			})
		},
	})
}

func (c *call) printRuns(all []schedule.Run, asJSON bool) error {
	if asJSON {
		if all == nil {
			all = []schedule.Run{}
		}
		return printJSON(c.Out, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.Out, "no runs")
		return err
	}
	rows := [][]string{{"JOB", "SLOT", "OUTCOME", "BEGAN", "TOOK", "NODE", "ATTEMPT", "FENCE", "TRACE", "ERROR"}}
	for _, r := range all {
		problem := oneLine(r.Error)
		if r.RequestedBy != "" {
			problem = "(requested by " + r.RequestedBy + ") " + problem
		}
		rows = append(rows, []string{
			r.Job, stamp(r.ScheduledAt), string(r.Outcome), stamp(r.StartedAt), took(&r), dash(r.Node),
			strconv.Itoa(r.Attempt), count(r.Fence), dash(r.TraceID), problem,
		})
	}
	return printTable(c.Out, rows)
}
