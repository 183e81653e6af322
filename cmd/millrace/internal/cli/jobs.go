package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

var jobsUse = config.Use{Required: []config.Name{config.Postgres}}

func (a *app) jobs() *cobra.Command {
	return group("jobs", "Scheduled jobs: what runs when, who holds which lock, how runs ended",
		a.jobsList(), a.jobsHistory(), a.jobsLocks(), a.jobsRun(), a.jobsUnlock())
}

// withJobs opens the jobs of the database, and says what to do if it has none.
func (c *call) withJobs(ctx context.Context, do func(*schedule.Operator) error) error {
	db, err := reachPostgres(ctx, c.cfg.Postgres)
	if err != nil {
		return err
	}
	defer db.Close()
	operator, err := schedule.NewOperator(db)
	if err != nil {
		return err
	}
	return noJobTables(do(operator))
}

// withLocks is withJobs for the locks of the database.
func (c *call) withLocks(ctx context.Context, do func(*lock.Operator) error) error {
	db, err := reachPostgres(ctx, c.cfg.Postgres)
	if err != nil {
		return err
	}
	defer db.Close()
	operator, err := lock.NewOperator(db)
	if err != nil {
		return err
	}
	return noJobTables(do(operator))
}

// noJobTables says what to do if err tells that the tables of the jobs are missing.
func noJobTables(err error) error {
	if pq.As(err, pqerror.UndefinedTable, pqerror.UndefinedColumn) != nil {
		return errors.New("the database has no tables of jobs: run millrace migrate up")
	}
	return err
}

func (a *app) jobsList() *cobra.Command {
	var asJSON bool
	return a.command(spec{
		use: "list", short: "List the jobs: schedule, next slot, last run, lock",
		long: `Lists the jobs that schedulers said they run, and those that only the history or
the locks know. LAST is the slot of the last run and RESULT how it ended; LOCK
tells who holds the job's lock in Postgres and until when, or until when it is kept; for
those in Redis see jobs locks. A run that is "running" while its lock is free has
crashed, or lost its lock.`,
		example: `  millrace jobs list --postgres postgres://app@localhost/app
  millrace jobs list --json | jq '.[] | select(.last.outcome != "ok")'`,
		settings: jobsUse,
		flags:    func(f *pflag.FlagSet) { f.BoolVar(&asJSON, "json", false, "print JSON") },
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.withJobs(ctx, func(o *schedule.Operator) error {
				all, err := o.Jobs(ctx)
				if err != nil {
					return err
				}
				return c.printJobs(all, asJSON)
			})
		},
	})
}

func (c *call) printJobs(all []schedule.JobState, asJSON bool) error {
	if asJSON {
		if all == nil {
			all = []schedule.JobState{}
		}
		return printJSON(c.Out, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.Out, "no jobs: no scheduler has run on this database")
		return err
	}
	rows := [][]string{{"JOB", "SCHEDULE", "NEXT", "LAST", "RESULT", "TOOK", "NODE", "LOCK"}}
	for _, j := range all {
		row := []string{j.Job, "-", stamp(j.Next), "-", "-", "-", "-", "-"}
		if j.Definition != nil {
			row[1] = j.Definition.Schedule
		}
		if r := j.Last; r != nil {
			row[3], row[4], row[5], row[6] = stamp(r.ScheduledAt), result(r, j.Lock), took(r), dash(r.Node)
		}
		if j.Lock != nil {
			row[7] = holding(j.Lock)
		}
		rows = append(rows, row)
	}
	return printTable(c.Out, rows)
}

// result is the outcome, and whether a run that never ended can still be at work.
func result(r *schedule.Run, lock *lock.State) string {
	if r.Outcome == schedule.OutcomeRunning && lock != nil && (!lock.Held || lock.Fence != r.Fence) {
		return "running, without its lock"
	}
	return string(r.Outcome)
}

func holding(l *lock.State) string {
	if !l.Held {
		return "free"
	}
	return fmt.Sprintf("%s for %s", l.Owner, l.Left.Round(time.Second))
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func took(r *schedule.Run) string {
	if r.FinishedAt.IsZero() || r.StartedAt.IsZero() {
		return "-"
	}
	return r.FinishedAt.Sub(r.StartedAt).Round(time.Millisecond).String()
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// jobFlag is the flag by which the commands that change something take a name.
func jobFlag(f *pflag.FlagSet, name *string) {
	f.StringVar(name, "job", "", "the job's name, as jobs list prints it")
}

var errNoJob = usageError{errors.New("--job: is missing: give one that jobs list prints")}
