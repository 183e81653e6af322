// Package inbox makes the effects of messages in Postgres happen once per
// consumer group and event, however often an event is delivered.
//
// A handler states its effect as a function of a transaction ([Effect]). The inbox
// adds a row for the event in the same transaction, so effect and row commit
// together or not at all. A delivery that finds the row has nothing left to do. If
// the effect appends messages to an outbox in that transaction, they belong to it and
// are published once.
//
// # When an event counts as done
//
// An event is done if its id is in the inbox. The id is the header event-id. A record
// without that header gets an id from the place where it was first received.
//
// An event's row is kept for [Config.Retention]. After that, pruning replaces the row
// by two facts that are kept forever and take little space: the record at this offset
// of this partition was done, and this version of this aggregate was done. Adjacent
// facts are stored as one range. An event is also done if one of these facts is there.
//
// So an event that was never done does not count as done, however old it is. An event
// that became a dead letter leaves a gap in the ranges and can be replayed at any
// time. An event that was done stays done: a replay of dead letters, or of a group
// whose offsets were set back, delivers it with the same offset, and a replay of the
// outbox's history, or a repeat of the relay, with the same version.
//
// There are two exceptions after the retention. An event without an aggregate version
// that is published again is done again. And if several events share one version of
// one aggregate, and only some of them were done, the others count as done too.
//
// A replayed dead letter carries its first place in its headers, see
// [deadletter.Origin].
//
// # Concurrency
//
// If two consumers have the same event at once, for example during a rebalance, the
// second waits for the transaction of the first. If that commits, the second skips the
// event. If it rolls back, the second makes the effect. Transactions are READ
// COMMITTED, whatever the default of the database is. After a serialization failure
// or a deadlock, the transaction is run again. It is also run again if the connection
// is lost during COMMIT: the rows then show whether it had committed.
package inbox
