package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/schedule"
)

func (a *app) jobsLocks() *cobra.Command {
	var held, asJSON bool
	return a.command(spec{
		use: "locks", short: "List the locks: who holds what, since when, until when",
		long: `Lists the rows of table shedlock, those of Java nodes too. A lock is renewed while
its task runs, so UNTIL moves on; after the task it may be kept for the job's
LockAtLeastFor. Locks that are kept in Redis are not in this table.`,
		example: `  millrace jobs locks --postgres postgres://app@localhost/app
  millrace jobs locks --held --json`,
		settings: jobsUse,
		flags: func(f *pflag.FlagSet) {
			f.BoolVar(&held, "held", false, "only those that are held")
			f.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.withJobs(ctx, func(o *schedule.Operator) error {
				all, err := o.Locks(ctx)
				if err != nil {
					return err
				}
				chosen := []schedule.LockState{}
				for _, l := range all {
					if l.Held || !held {
						chosen = append(chosen, l)
					}
				}
				return c.printLocks(chosen, asJSON)
			})
		},
	})
}

func (c *call) printLocks(all []schedule.LockState, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.Out, "no locks")
		return err
	}
	rows := [][]string{{"LOCK", "STATE", "HOLDER", "SINCE", "UNTIL", "LEFT", "FENCE"}}
	for _, l := range all {
		state, left := "free", "-"
		if l.Held {
			state, left = "held", l.Left.Round(time.Second).String()
		}
		rows = append(rows, []string{l.Name, state, l.Owner, stamp(l.Since), stamp(l.Until), left, count(l.Fence)})
	}
	return printTable(c.Out, rows)
}

// unlockReport is what jobs unlock --json prints.
type unlockReport struct {
	DryRun bool               `json:"dry_run"`
	Lock   schedule.LockState `json:"lock"` // as it was
}

func (a *app) jobsUnlock() *cobra.Command {
	var job, note string
	var yes, asJSON bool
	return a.command(spec{
		use: "unlock", short: "Take a lock away from its holder",
		long: `Frees the lock of --job although somebody holds it. A task that still runs is
cancelled at its next renewal, within a third of the lease, and until then works
beside the next holder: only what it writes under schedule.Guard is refused at
once. A crashed holder needs no unlock: its lock lapses by itself. Without --yes it
only says what would happen; with it the unlock is written into job_audit.`,
		example: `  millrace jobs unlock --job resend-failed-notifications
  millrace jobs unlock --job resend-failed-notifications --note "node 7 is gone" --yes`,
		settings: jobsUse,
		flags: func(f *pflag.FlagSet) {
			jobFlag(f, &job)
			f.StringVar(&note, "note", "", "why, for the audit")
			f.BoolVar(&yes, "yes", false, "do it")
			f.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if job == "" {
				return errNoJob
			}
			return c.withJobs(ctx, func(o *schedule.Operator) error {
				report, err := unlock(ctx, o, job, note, yes)
				if errors.Is(err, schedule.ErrNoSuchLock) {
					return fmt.Errorf("nobody holds the lock %s: see millrace jobs locks", job)
				}
				if err != nil {
					return err
				}
				return c.printUnlock(report, asJSON)
			})
		},
	})
}

func unlock(ctx context.Context, o *schedule.Operator, job, note string, yes bool) (r unlockReport, err error) {
	if yes {
		r.Lock, err = o.Unlock(ctx, job, actor(), note)
		return r, err
	}
	all, err := o.Locks(ctx)
	if err != nil {
		return r, err
	}
	for _, l := range all {
		if l.Name == job && l.Held {
			return unlockReport{DryRun: true, Lock: l}, nil
		}
	}
	return r, schedule.ErrNoSuchLock
}

func (c *call) printUnlock(r unlockReport, asJSON bool) error {
	if asJSON {
		return printJSON(c.Out, r)
	}
	what := "freed"
	if r.DryRun {
		what = "would free"
	}
	_, err := fmt.Fprintf(c.Out, "%s %s, held by %s since %s, fence %d\n", what, r.Lock.Name, r.Lock.Owner, stamp(r.Lock.Since), r.Lock.Fence)
	if r.DryRun {
		fmt.Fprintln(c.Err, "nothing was changed: give --yes to do it")
	}
	return err
}
