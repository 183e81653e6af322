// Package audit keeps consumer.Book in Postgres: who did what to dead letters,
// when, why and with what outcome (table dead_letter_audit), and what became of
// each letter (table dead_letter_decision). The tables come with the migrations of
// sql.Outbox.
//
// Kafka is append-only: a letter that was dealt with stays on its topic. Whether
// it was is told by the committed offsets of a consumer group; what was decided,
// by whom and why, is told by these tables, and they also know letters that lie too
// scattered for a committed offset.
package audit
