// Package watermillsql lets a team that uses watermill-sql move over to Millrace
// step by step, without losing, doubling or reordering a message.
//
// Schema and Offsets are watermill-sql's adapters over the outbox: its
// sql.Publisher then writes outbox rows, and its sql.Subscriber reads them.
// Importer moves what a stock forwarder has not acknowledged yet from its table
// to the outbox. Moving is the adapter for the time between: writers that use it
// write to the stock table until Importer.Switch, and to the outbox from then
// on, all of them at the same instant.
//
// docs/moving-from-watermill-sql.md is the guide.
package watermillsql
