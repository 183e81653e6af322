package config

import (
	"slices"
	"strings"
	"time"
)

// setting is one row of the table that flags, environment, file and help share.
type setting struct {
	name   Name
	alias  string // second environment variable, empty for none
	secret bool   // never printed; may be read from a file named by ENV_FILE
	def    string
	kind   string // what the flag takes, for its help
	usage  string
	hint   string // what to do when it is missing
	former Name   // what the setting was called before, empty for none
	set    func(c *Config, value string) error
}

// env is the setting's own environment variable.
func (s *setting) env() string { return envOf(s.name) }

func envOf(n Name) string {
	return "MILLRACE_" + strings.ToUpper(strings.ReplaceAll(string(n), "-", "_"))
}

// envs lists the variables that may hold the value, the strongest first.
func (s *setting) envs() []string {
	if s.alias == "" {
		return []string{s.env()}
	}
	return []string{s.env(), s.alias}
}

var settings = []*setting{
	{
		name: Postgres, kind: "url", alias: "DATABASE_URL", secret: true,
		usage: "Postgres address, such as postgres://user@host:5432/db",
		hint:  "give --postgres, MILLRACE_POSTGRES or DATABASE_URL",
		set:   setPostgres,
	},
	{
		name: Kafka, kind: "list", alias: "KAFKA_BROKERS",
		usage: "Kafka bootstrap addresses, host:port separated by commas",
		hint:  "give --kafka, MILLRACE_KAFKA or KAFKA_BROKERS",
		set:   setBrokers,
	},
	{
		name: Redis, kind: "url", alias: "REDIS_URL", secret: true,
		usage: "Redis address, such as redis://host:6379/0",
		hint:  "give --redis, MILLRACE_REDIS or REDIS_URL",
		set:   setRedis,
	},
	{
		name: LogFormat, kind: "format", def: "text", usage: "log format: text or json",
		set: setOneOf(func(c *Config) *string { return &c.LogFormat }, "text", "json"),
	},
	{
		name: LogLevel, kind: "level", def: "info", usage: "minimum log level: debug, info, warn or error",
		set: setLevel,
	},
	{
		name: RelayName, kind: "name", def: "relay", usage: "name of the relay: its cursor and its lease",
		set: setRelayName,
	},
	{
		name: Lease, kind: "duration", def: "2s", usage: "how long the lease lasts when its holder dies",
		set: setDuration(func(c *Config) *time.Duration { return &c.Lease }, 200*time.Millisecond, time.Hour),
	},
	{
		name: DrainTimeout, kind: "duration", def: "10s", usage: "how long a graceful stop may wait for the broker",
		set: setDuration(func(c *Config) *time.Duration { return &c.DrainTimeout }, 100*time.Millisecond, time.Hour),
	},
	{
		name: BatchRows, kind: "int", def: "1000", usage: "maximum rows of one read",
		set: setInt(func(c *Config) *int { return &c.BatchRows }, 1, 100_000),
	},
	{
		name: BatchBytes, kind: "int", def: "4194304", usage: "maximum payload bytes of one read",
		set: setInt(func(c *Config) *int { return &c.BatchBytes }, 1024, 1<<30),
	},
	{
		name: WindowRows, kind: "int", def: "10000", usage: "maximum rows in flight, the bound on duplicates after a crash",
		set: setInt(func(c *Config) *int { return &c.WindowRows }, 1, 10_000_000),
	},
	{
		name: HTTP, kind: "address", usage: "address of the health endpoint, such as :8080 (default none)",
		set: setListen,
	},
	{
		name: Dev, kind: "bool", def: "false", usage: "accept a test broker that keeps nothing",
		set: setBool(func(c *Config) *bool { return &c.Dev }),
	},
	{
		name: ListenPostgres, kind: "url", secret: true,
		usage: "Postgres address that no pooler stands before, to listen for wake-ups at (default that of --postgres)",
		hint:  "give --listen-postgres or MILLRACE_LISTEN_POSTGRES",
		set:   setListenPostgres,
	},
	{
		name: NoListen, former: "no-doorbell", kind: "bool", def: "false", usage: "poll only, and listen for no wake-ups",
		set: setBool(func(c *Config) *bool { return &c.NoListen }),
	},
	{
		name: Outboxes, kind: "list", secret: true,
		usage: "Postgres URLs of several outboxes, separated by commas, each perhaps as name=URL; instead of --postgres",
		hint:  "give --outboxes or MILLRACE_OUTBOXES",
		set:   setOutboxes,
	},
	{
		name: HandOverAfter, former: "settle", kind: "duration", usage: "how long another instance must have led fewer of the --outboxes before it is handed one (default 5s, or two leases)",
		set: setDuration(func(c *Config) *time.Duration { return &c.HandOverAfter }, 200*time.Millisecond, time.Hour),
	},
	{
		name: Retention, kind: "duration", def: "168h", usage: "how long delivered messages stay in the log, or forever",
		set: setRetention,
	},
	{
		name: Topics, kind: "list", usage: "topics to look at, separated by commas (default those in the outbox)",
		set: setList(func(c *Config) *[]string { return &c.Topics }),
	},
	{
		name: Groups, kind: "list", usage: "consumer groups to look at, separated by commas (default all)",
		set: setList(func(c *Config) *[]string { return &c.Groups }),
	},
}

func lookup(n Name) *setting {
	i := slices.IndexFunc(settings, func(s *setting) bool { return s.name == n })
	if i < 0 {
		return nil
	}
	return settings[i]
}
