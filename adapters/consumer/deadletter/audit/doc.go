// Package audit keeps a deadletter.AuditLog in Postgres: who did what to dead
// letters, when, why and with what outcome (table dead_letter_audit), and what
// became of each dead letter (table dead_letter_decision). The tables come with the
// migrations of sql.Outbox.
//
// The committed offsets of a consumer group already say which dead letters are
// resolved. These tables add who decided and why, and they have room for any
// number of separate ranges of resolved dead letters, which a committed offset has
// not.
package audit
