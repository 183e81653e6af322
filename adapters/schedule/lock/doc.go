// Package lock runs a task on one node at a time, with the locks of ShedLock and a
// fence that is checked in the transaction of the effect.
//
// A [Locker] takes a lock, runs a task under it and frees it:
//
//	locks, err := lock.NewPostgres(db)
//	locker, err := lock.NewLocker(locks, lock.Config{})
//	result := locker.Do(ctx, lock.Lock{Name: "report", AtMostFor: 4 * time.Minute, AtLeastFor: 10 * time.Second}, task)
//
// While the task runs, its lock is renewed. If that fails, the task's context is
// cancelled with [ErrLost] as its cause. Since a process can be frozen just then, a
// task that writes calls [Guard] in the same transaction: it fails once somebody
// else has, or could have, the lock.
//
// Locks are kept in Postgres ([NewPostgres], in ShedLock's own table, so that Java
// nodes take part), in Redis (package redislock, in ShedLock's format) or in memory
// ([NewMemory]). An [Operator] lists the locks in Postgres and takes them away from
// their holders.
//
// # For implementers
//
// A store of locks implements [Provider], takes a [Request] and gives a [Grant].
// Package locktest tests what every provider must do. The provider in Postgres has
// [Postgres.Acquire], [Postgres.Renew], [Postgres.Release], [Postgres.Guard] and
// [Postgres.Check], which a [Locker] calls.
package lock
