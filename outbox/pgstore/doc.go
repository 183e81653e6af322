// Package pgstore keeps the outbox in Postgres, over database/sql and lib/pq. It
// holds every SQL text of the outbox.
//
// [Store] appends messages in the caller's transaction and is an [outbox.Log]:
// it reads committed messages without loss and without waiting for long
// transactions, by the gap ledger (see ledger.go), and times the relay's lease by
// the database's clock. Create the tables with package sql, or `millrace migrate up`.
package pgstore
