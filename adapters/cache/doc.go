// Package cache keeps what a database knows in Redis, such that an answer never
// goes backwards and trouble with Redis is never taken for an answer.
//
// [Versioned] holds things that have a version: aggregates, sessions. An entry is
// replaced only by a later version, compared inside Redis, by whoever comes with
// it: a reader that missed, a writer after its commit, a projection of events.
// What is gone or revoked leaves a tombstone that carries a version as well.
// [Query] holds the results of queries, which have none: they belong to a
// generation, and [Query.Invalidate] begins a new one. [Versioned.Near] puts a
// bounded layer of this process in front, which Redis itself keeps up to date.
//
// A miss costs the database one load, however many ask: callers of one process
// share it, and a lease in Redis lets one process load and the others wait. All
// caches of a [Store] share one bound on concurrent loads; what finds no room in
// time gets [ErrOverloaded]. If Redis is slow, away, full or wrong, the database
// answers under the same bound. docs/cache.md is the guide.
//
// A stored entry is one Redis string:
//
//	version  20 digits, zero-padded, compared as text
//	state     1 character: o live, n missing, r revoked
//	expiry   13 digits, Unix milliseconds after which the entry counts for nothing
//	delta     8 digits, milliseconds that its load took, at least 1; 0 if it was put
//	payload  the encoded value, JSON unless configured; only of state o
package cache
