// Package inbox makes the effects of messages in Postgres happen once per
// consumer group and event, however often an event is delivered.
//
// A handler states its effect as a function of a transaction ([Effect]). The
// inbox adds a row for the event in the same transaction, so that effect and row
// commit together or not at all; a delivery that finds the row has nothing left
// to do. Messages that the effect appends to an outbox in that transaction are
// part of it, and so are published once.
//
// # When an event counts as done
//
//   - Its id is in the inbox. The id is the header event-id; of a record without
//     one it is made of the place where the record was first received.
//   - Or pruning has folded it. An event's row is kept for [Config.Retention].
//     After that, pruning replaces it by two facts that are kept forever and
//     take little room: that the record at this offset of this partition was done,
//     and that this version of this aggregate was. Neighbours join to ranges.
//
// So what was never done is not taken for done, however old it is: an event that
// became a dead letter leaves a hole in the ranges, and can be replayed at any
// time. And what was done is known for good, by a replay of dead letters or after
// the group's offsets were set back (same offset), and by a replay of the outbox's
// history or a repeat of the relay (same version). Only an event without an
// aggregate version that is published again after the retention is done again; so
// is an unknown third: of several events that share one version of one aggregate,
// and were not all done, the rest count as done after the retention.
//
// A replayed dead letter has its first place in its headers; see
// [deadletter.Origin].
//
// # Concurrency
//
// When two consumers have the same event at once, as over a rebalance, the second
// waits for the row of the first: if that commits the second skips the event, and
// if it rolls back the second makes the effect. Transactions are READ COMMITTED,
// whatever the database's default is. Serialization failures and deadlocks are
// tried again. If the connection is lost during COMMIT, the work is done again:
// its rows tell whether it was.
package inbox
