// Package outbox is the transactional outbox of Millrace: a log of messages that
// are written in the same Postgres transaction as the entity they tell of, and a
// relay that carries them to a broker.
//
// A service appends with [Writer.Append] inside its own transaction. A [Relay]
// reads the log through the [Log] seam, publishes every committed message and
// keeps a [Cursor] of what the broker has acknowledged. Delivery is at least
// once; per key, first deliveries are in commit order.
//
// Package pgstore holds the Postgres log and every SQL text; package outboxtest
// holds an in-memory log and the suite that both pass.
package outbox
