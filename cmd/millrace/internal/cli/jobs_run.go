package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// runReport is what jobs run --json prints.
type runReport struct {
	DryRun bool          `json:"dry_run"`
	Job    string        `json:"job"`
	Slot   time.Time     `json:"slot,omitzero"`
	Run    *schedule.Run `json:"run,omitempty"` // with --wait
}

func (a *app) jobsRun() *cobra.Command {
	var job, note string
	var wait time.Duration
	var yes, asJSON bool
	return a.command(spec{
		use: "run", short: "Have a job run now, outside of its schedule",
		long: `Asks the schedulers to run --job once, under its lock: the next one that polls and
gets the lock does, usually within 5 s. The run is in jobs history with who asked for
it. With --wait the command waits for its end, and fails unless it is ok. Without --yes it
only says what would happen; with it the request is written into job_audit.`,
		example: `  millrace jobs run --job resend-failed-notifications
  millrace jobs run --job resend-failed-notifications --wait 1m --yes`,
		settings: jobsUse,
		flags: func(f *pflag.FlagSet) {
			jobFlag(f, &job)
			f.StringVar(&note, "note", "", "why, for the audit")
			f.DurationVar(&wait, "wait", 0, "wait for the run's end, at most for so long (default not at all)")
			f.BoolVar(&yes, "yes", false, "do it")
			f.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if job == "" {
				return errNoJob
			}
			if wait < 0 {
				return usageError{fmt.Errorf("--wait: is %s, must not be negative", wait)}
			}
			return c.withJobs(ctx, func(o *schedule.Operator) error {
				return c.requestRun(ctx, o, job, note, wait, yes, asJSON)
			})
		},
	})
}

func (c *call) requestRun(ctx context.Context, o *schedule.Operator, job, note string, wait time.Duration, yes, asJSON bool) error {
	report := runReport{DryRun: !yes, Job: job}
	if !yes {
		if err := c.knowsJob(ctx, o, job); err != nil {
			return err
		}
		return c.printRun(&report, asJSON)
	}
	var err error
	report.Slot, err = o.Request(ctx, job, actor(), note)
	switch {
	case errors.Is(err, schedule.ErrNoSuchJob):
		return noSuchJob(job)
	case errors.Is(err, schedule.ErrAlreadyRequested):
		return fmt.Errorf("a run of %s is requested already and has not begun: see millrace jobs history --job %s", job, job)
	case err != nil:
		return err
	}
	if wait > 0 {
		if report.Run, err = awaitRun(ctx, o, job, report.Slot, wait); err != nil {
			return errors.Join(c.printRun(&report, asJSON), err)
		}
	}
	if err := c.printRun(&report, asJSON); err != nil {
		return err
	}
	if r := report.Run; r != nil && r.Outcome != lock.OutcomeOK {
		return fmt.Errorf("the run ended with %s: %s", r.Outcome, oneLine(r.Error))
	}
	return nil
}

func noSuchJob(job string) error {
	return fmt.Errorf("no scheduler runs a job %s: see millrace jobs list", job)
}

func (c *call) knowsJob(ctx context.Context, o *schedule.Operator, job string) error {
	all, err := o.Jobs(ctx)
	if err != nil {
		return err
	}
	for _, j := range all {
		if j.Job == job && j.Definition != nil {
			return nil
		}
	}
	return noSuchJob(job)
}

// awaitRun polls until the run of a slot has ended.
func awaitRun(ctx context.Context, o *schedule.Operator, job string, slot time.Time, wait time.Duration) (*schedule.Run, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last *schedule.Run
	for {
		runs, err := o.Runs(ctx, schedule.RunFilter{Job: job, Since: slot, Limit: 1000})
		if err != nil && ctx.Err() == nil {
			return nil, err
		}
		for _, r := range runs {
			if r.ScheduledAt.Equal(slot) {
				last = &r
			}
		}
		if last != nil && last.Outcome != schedule.OutcomeRequested && last.Outcome != schedule.OutcomeRunning {
			return last, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if last != nil && last.Outcome == schedule.OutcomeRunning {
				return last, fmt.Errorf("the run has not ended within %s: see millrace jobs history --job %s", wait, job)
			}
			return last, fmt.Errorf("no scheduler has begun the run within %s: is one running, and is the lock free? see millrace jobs list", wait)
		}
	}
}

func (c *call) printRun(r *runReport, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, r)
	}
	if r.DryRun {
		_, err := fmt.Fprintf(c.Out, "would ask the schedulers to run %s once\n", r.Job)
		fmt.Fprintln(c.Err, "nothing was changed: give --yes to do it")
		return err
	}
	if _, err := fmt.Fprintf(c.Out, "requested a run of %s, slot %s\n", r.Job, r.Slot.Format(time.RFC3339Nano)); err != nil {
		return err
	}
	if r.Run == nil || r.Run.Outcome == schedule.OutcomeRequested {
		return nil
	}
	_, err := fmt.Fprintf(c.Out, "%s on %s: %s, took %s\n", r.Job, r.Run.Node, r.Run.Outcome, took(r.Run))
	return err
}
