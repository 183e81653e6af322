package schedule_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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

// A scheduler for a service: it runs beside everything else that the service does.
func Example() {
	var (
		ctx context.Context // ends when the process is told to stop
		db  *sql.DB         // opened with pgstore.Open; millrace migrate up made the tables
	)
	if err := runJobs(ctx, db); err != nil {
		fmt.Println(err)
	}
}

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
