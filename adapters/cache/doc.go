// Package cache keeps what a database knows in Redis, so that an answer never goes
// backwards and trouble with Redis is never taken for an answer.
//
// [Versioned] holds things that have a version: aggregates, sessions. An entry is
// replaced only by a later version, compared inside Redis, by any writer: a
// reader after a miss, a writer after its commit, a projection of events. What is
// gone or revoked leaves a tombstone, which has a version too. [Query] holds results
// of queries, which have none: they belong to a generation, and [Query.Invalidate]
// begins a new one. [Versioned.Near] counts the entries of a bounded layer in this
// process, which Redis keeps up to date. Package rebuild builds a view of events
// again while it answers.
//
// A miss costs the database one load, however many callers there are:
//
//	Get ── GET ──> Redis: entry? ── yes ──────────────────────────> answer
//	                 │ no
//	                 v
//	  callers of this process share one flight
//	                 │
//	                 v
//	  lease of the key free? ── no ──> wait for the entry, at most LeaseWait,
//	                 │ yes              then take the lease over
//	                 v
//	  load, at most MaxLoads at once; after LoadWait ErrOverloaded
//	                 │
//	                 v
//	  fill: stored if the lease is still ours ─────────────────────> answer
//	        a Put of a newer version deletes the lease: load again
//
// If Redis is slow, away, full or wrong, the database answers within the same limit.
// docs/cache.md is the guide.
//
// A stored entry is one Redis string:
//
//	version  20 digits, zero-padded, compared as text
//	state     1 character: o live, n missing, r revoked
//	expiry   13 digits, Unix milliseconds after which the entry counts for nothing
//	delta     8 digits, milliseconds that its load took, at least 1; 0 if it was put
//	payload  the encoded value, JSON unless configured; only of state o
//
// # For implementers
//
// Views that keep hashes of their own, beside entries, store values as [Stored] does
// ([ParseStored], [Stored.Append]) and write into the [Generations] that package
// rebuild names; [Versioned.In] and [Versioned.Key] address one of them.
package cache
