// Package watermillsql lets a team that uses watermill-sql move to Millrace step
// by step. No message is lost, duplicated or reordered.
//
//   - [NewSchema] and [NewOffsets] are watermill-sql's adapters over the outbox:
//     its sql.Publisher then writes outbox rows, and its sql.Subscriber reads them.
//   - [Importer] moves what a stock forwarder has not acknowledged yet from its
//     table to the outbox.
//   - [NewSwitchSchema] is the adapter for the time between. Publishers with it
//     write to the stock table until [Importer.Switch] is called and to the outbox
//     from then on, all of them from the same instant.
//
// In this package "stock" means watermill-sql as it is: its tables, its adapters
// and the forwarder that reads them.
//
// docs/moving-from-watermill-sql.md is the guide.
package watermillsql
