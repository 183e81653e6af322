// Package outboxtest holds the conformance suite that every [outbox.Log] passes,
// and a log in memory that is a first-class sibling of the Postgres one: for
// tests of what is built on the outbox, without a database.
package outboxtest
