// Package schedule runs scheduled jobs once, however many nodes there are: a cron
// scheduler as in Spring, on the locks of package lock, with a history of the runs.
//
// A [Scheduler] runs [Job]s at the times of their schedules. Each such time is a
// slot with one row in the history, so a slot is run once whatever the clocks of
// the nodes say. The task of a job runs under the job's lock: it calls lock.Guard,
// or [Complete], in the transactions in which it writes.
//
//	scheduler, err := schedule.NewScheduler(locker, history, []schedule.Job{{
//		Name: "report", Schedule: "0 */5 * * * *", LockAtLeastFor: "PT10S", Run: report,
//	}}, schedule.SchedulerConfig{})
//	err = scheduler.Run(ctx)
//
// An [Operator] lists the jobs and their runs, and asks for a run now.
//
// # For implementers
//
// A store of runs implements [History], which records each [Run] and
// [Definition]. Package historytest tests what every history must do. A history in
// memory shows one: [MemoryHistory.Begin], [MemoryHistory.Complete],
// [MemoryHistory.Define], [MemoryHistory.Finish], [MemoryHistory.Forget],
// [MemoryHistory.Last], [MemoryHistory.Open], [MemoryHistory.Outcome].
package schedule
