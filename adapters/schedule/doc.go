// Package schedule runs scheduled jobs once, on however many nodes: locks with
// the meaning of ShedLock, a fence that is checked in the transaction of the
// effect, a cron scheduler as in Spring, and a history of the runs.
//
// A [Locker] takes a lock, runs a task under it and frees it:
//
//	locks, err := schedule.NewPostgresLocks(db)
//	locker, err := schedule.NewLocker(locks, schedule.LockerConfig{})
//	result := locker.Do(ctx, schedule.Lock{Name: "report", AtMostFor: 4 * time.Minute, AtLeastFor: 10 * time.Second}, task)
//
// While the task runs, its lock is renewed; if that does not work out, the task's
// context is cancelled with [ErrLockLost] as its cause. Since a process can be
// frozen just then, a task that writes calls [Guard] in the same transaction:
// it fails once somebody else has, or could have, the lock.
//
// A [Scheduler] runs [Job]s at the times of their schedules. Each such time is a
// slot with one row in the history, so a slot is run once whatever the clocks of
// the nodes say.
//
// Locks are kept in Postgres ([NewPostgresLocks], in ShedLock's own table, so
// that Java nodes take part), in Redis ([NewRedisLocks], in ShedLock's format) or
// in memory ([NewMemoryLocks]). Package locktest has what they all keep to.
package schedule
