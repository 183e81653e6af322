// Package pgstore keeps the outbox in Postgres, over database/sql and lib/pq. It
// holds every SQL text of the outbox. Create the tables with package sql, or with
// `millrace migrate up`.
//
// A service makes one [Store] with [New] and gives it to outbox.NewWriter and
// outbox.NewRelay. [Open] makes a pool for a relay process. [EntityWriter] writes an
// entity and its messages in one round trip. [Listener] and [Notifier] wake idle
// relays by LISTEN and NOTIFY. [History] reads what was delivered.
//
// # Appending
//
//	outbox.Writer.Append
//	    Store.Append           one INSERT of fixed text, prepared by Store.Prepare
//	    inserts.forMessages    a statement for one message, or one for many
//	    appendArgs             the nine parameters
//	    appendOneSQL, appendManySQL
//
// # Reading
//
// Positions come from a sequence, so a transaction may commit a position below one
// that was read before. The ledger keeps such positions as gaps until their
// transactions have ended. That is how a long transaction delays only its own rows.
//
//	outbox.Relay
//	    Store.Acquire
//	        openSession        two connections; guard refuses an unsafe log
//	        carryOut           decisions on parked messages
//	    session.Read
//	        reading.observe    (a) who holds the sequence's lock
//	        ledger.observe     which gaps to read again
//	        reading.read       (b) the gaps and the tail in one later snapshot
//	        ledger.apply       what is delivered, what stays a gap
//	    session.Save           the cursor, under the epoch of the lease
//
// Read ledger.go first; testdata/ledger has scenarios of it as scripts. Then
// reading.go, session.go and queries.go.
//
// # For operators' tools
//
// [Store.Parked], [Store.Decide], [Store.Entry], [Store.Relays], [Store.Lag],
// [Store.Partitions], [Store.MakePartitions], [Store.Droppable],
// [Store.DropPartitions] and [Store.EnableHistory] are what the command millrace is
// made of.
//
// # For implementers
//
// [Store.Append], [Store.Acquire], [Store.Check], [Store.Announce], [Store.Leave],
// [Store.NotifyStandbys], [Listener.Working], [Listener.Arm] and [Listener.Disarm]
// implement interfaces of package outbox. Services do not call them.
package pgstore
