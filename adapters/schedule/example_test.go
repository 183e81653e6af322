package schedule_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// docs/jobs.md: from here

// runJobs runs one job at its times, on one node at a time, until ctx ends.
func runJobs(ctx context.Context, db *sql.DB) error {
	locks, err1 := lock.NewPostgres(db)
	locker, err2 := lock.NewLocker(locks, lock.Config{})
	history, err3 := schedule.NewPostgresHistory(db)
	jobs := []schedule.Job{{
		Name: "closeInvoices", Schedule: "0 */5 * * * *", LockAtLeastFor: "PT10S",
		Run: func(ctx context.Context) error { return closeInvoices(ctx, db) },
	}}
	scheduler, err4 := schedule.NewScheduler(locker, history, jobs, schedule.SchedulerConfig{})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	return scheduler.Run(ctx) // ends when the task has ended and its lock is free
}

// docs/jobs.md: the effect

// closeInvoices writes only as long as its lock is its own.
func closeInvoices(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := lock.Guard(ctx, tx); err != nil {
		return err // somebody else has the lock
	}
	if _, err := tx.ExecContext(ctx, `UPDATE invoice SET closed = true WHERE due < now() AND NOT closed`); err != nil {
		return err
	}
	return tx.Commit()
}

// docs/jobs.md: to here

// What a cron expression means, and which are refused.
func ExampleParseSchedule() {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, text := range []string{"0 */5 * * * *", "0 0 9 LW * *", "0 30 8 ? * MON#1", "PT90M", "0 0 0 31 2 *"} {
		timetable, err := schedule.ParseSchedule(text, time.UTC)
		if err != nil {
			fmt.Println(text, "->", err)
			continue
		}
		fmt.Println(text, "->", timetable.Next(noon).Format("Mon 2 Jan 15:04"))
	}
	// Output:
	// 0 */5 * * * * -> Sun 22 Nov 12:05
	// 0 0 9 LW * * -> Mon 30 Nov 09:00
	// 0 30 8 ? * MON#1 -> Mon 7 Dec 08:30
	// PT90M -> Sun 22 Nov 13:30
	// 0 0 0 31 2 * -> "0 0 0 31 2 *" never comes: there is no such date
}

// runOnce runs job until its task has run once; a service runs its scheduler until
// it is told to stop.
func runOnce(history schedule.History, hooks schedule.Hooks, job schedule.Job) error {
	locker, err := lock.NewLocker(lock.NewMemory(), lock.Config{})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	once := schedule.Hooks{Slot: func(schedule.Slot) { stop() }}
	scheduler, err := schedule.NewScheduler(locker, history, []schedule.Job{job}, schedule.SchedulerConfig{Node: "node-1", Hooks: hooks.Tee(once)})
	if err != nil {
		return err
	}
	return scheduler.Run(ctx)
}

// A job at a fixed rate, on locks and a history in memory.
func ExampleScheduler() {
	err := runOnce(schedule.NewMemoryHistory(), schedule.Hooks{}, schedule.Job{
		Name: "greet", Schedule: "PT0.1S",
		Run: func(context.Context) error {
			fmt.Println("hello")
			return nil
		},
	})
	fmt.Println(err)
	// Output:
	// hello
	// <nil>
}

// The history has one run for each slot, with its outcome.
func ExampleMemoryHistory() {
	history := schedule.NewMemoryHistory()
	err := runOnce(history, schedule.Hooks{}, schedule.Job{
		Name: "report", Schedule: "PT0.1S", Run: func(context.Context) error { return errors.New("no paper") },
	})
	for _, r := range history.Runs("report") {
		fmt.Println(r.Job, r.Node, r.Outcome, r.Error, r.Attempt)
	}
	fmt.Println(err)
	// Output:
	// report node-1 error no paper 1
	// <nil>
}

// A task knows its slot: the same on whichever node, and again after a crash.
func ExampleCurrentRun() {
	err := runOnce(schedule.NewMemoryHistory(), schedule.Hooks{}, schedule.Job{
		Name: "report", Schedule: "PT0.1S",
		Run: func(ctx context.Context) error {
			run, ok := schedule.CurrentRun(ctx)
			fmt.Println(ok, run.Job, run.ScheduledAt.UnixMilli()%100, run.Attempt)
			return nil
		},
	})
	fmt.Println(err)
	// Output:
	// true report 0 1
	// <nil>
}

// What an operator needs to know goes into the log: here a run that failed.
func ExampleLogHooks() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "slot" {
			return slog.Attr{}
		}
		return a
	}}))
	err := runOnce(schedule.NewMemoryHistory(), schedule.LogHooks(log), schedule.Job{
		Name: "report", Schedule: "PT0.1S", Run: func(context.Context) error { return errors.New("no paper") },
	})
	fmt.Println(err)
	// Output:
	// level=WARN msg="job failed" job=report verdict=ran error="no paper"
	// <nil>
}

// Everything that is wrong with the jobs is reported at once, before any of them
// runs.
func ExampleNewScheduler() {
	locker, err := lock.NewLocker(lock.NewMemory(), lock.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = schedule.NewScheduler(locker, schedule.NewMemoryHistory(), []schedule.Job{
		{Name: "report", Schedule: "0 0 0 31 2 *", LockAtMostFor: "soon", Missed: "perhaps"},
	}, schedule.SchedulerConfig{})
	fmt.Println(err)
	// Output:
	// scheduler: job "report": Schedule: "0 0 0 31 2 *" never comes: there is no such date
	// job "report": LockAtMostFor: must be a duration such as PT10S, 10s or 10000 (milliseconds), is "soon"
	// job "report": Run: must not be nil
	// job "report": Missed: must be run-once, skip or run-all, is "perhaps"
}

// Durations are read as Spring reads them.
func ExampleParseDuration() {
	for _, text := range []string{"PT4M", "P1DT2H", "90s", "10000"} {
		d, err := schedule.ParseDuration(text)
		fmt.Println(text, d, err)
	}
	// Output:
	// PT4M 4m0s <nil>
	// P1DT2H 26h0m0s <nil>
	// 90s 1m30s <nil>
	// 10000 10s <nil>
}
