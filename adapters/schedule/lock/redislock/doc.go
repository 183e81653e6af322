// Package redislock keeps the locks of package lock in one Redis, with the keys
// and values of ShedLock, so that ShedLock's Redis providers contend for the same
// locks (give them safeUpdate, or their late unlock frees a lock of somebody else).
//
// Redis may lose locks in a failover; then two holders can be at work for a while,
// and lock.Guard keeps their writes apart. After a flush or a restart no lock is
// granted for Config.MaxLease. Where that is too weak, keep the locks in Postgres.
package redislock
