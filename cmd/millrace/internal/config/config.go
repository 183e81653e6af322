package config

import (
	"log/slog"
	"time"
)

// Config is what the commands run on. A command reads the fields of the
// settings it declared; the others hold their zero value.
type Config struct {
	Postgres string   // DSN, as URL or as key=value pairs
	Kafka    []string // bootstrap addresses, host:port
	Redis    string   // redis:// URL

	LogFormat string     // "text" or "json"
	LogLevel  slog.Level // minimum level that is written

	RelayName    string        // cursor and lease of this relay
	Lease        time.Duration // how long a lease lasts without renewal
	DrainTimeout time.Duration // how long a graceful stop may take
	BatchRows    int           // maximum rows of one read
	BatchBytes   int           // about the maximum payload bytes of one read
	WindowRows   int           // maximum rows in flight: the bound on duplicates after a crash
	HTTP         string        // health endpoint, host:port; empty = none
	Dev          bool          // accept a test broker
	Retention    time.Duration // how long delivered messages stay in the log; -1 = forever

	ListenPostgres string // DSN of the listening connection; empty = Postgres
	NoListen       bool   // poll only

	Outboxes      []Outbox      // instead of Postgres
	HandOverAfter time.Duration // how long another instance must have led fewer outboxes before one is handed over; 0 = the library's default

	Topics []string // topics to look at
	Groups []string // consumer groups to look at; empty = all
}

// Name identifies a setting: its flag without the dashes and its key in the
// file. Its environment variable is MILLRACE_ and the name in capitals.
type Name string

// The settings there are.
const (
	Postgres     Name = "postgres"
	Kafka        Name = "kafka"
	Redis        Name = "redis"
	LogFormat    Name = "log-format"
	LogLevel     Name = "log-level"
	RelayName    Name = "relay-name"
	Lease        Name = "lease"
	DrainTimeout Name = "drain-timeout"
	BatchRows    Name = "batch-rows"
	BatchBytes   Name = "batch-bytes"
	WindowRows   Name = "window-rows"
	HTTP         Name = "http"
	Dev          Name = "dev"
	Retention    Name = "retention"
	Topics       Name = "topics"
	Groups       Name = "groups"

	ListenPostgres Name = "listen-postgres"
	NoListen       Name = "no-listen"
	Outboxes       Name = "outboxes"
	HandOverAfter  Name = "hand-over-after"
)
