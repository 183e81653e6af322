// Package service wires the reference service: use cases over Postgres with an
// outbox, a relay in the same process, consumer groups that send notifications,
// keep the Redis views and write an audit, jobs, and the HTTP API. Commands and
// end-to-end tests start it with Run.
package service

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/lib/pq"
	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/notifier/codec"
)

// Config says where the servers are and what to run. The first three fields are
// required.
type Config struct {
	// DatabaseURL is a Postgres address; name sslmode explicitly.
	DatabaseURL string
	// Brokers are Kafka bootstrap addresses, host:port.
	Brokers []string
	// RedisURL is a Redis address, such as redis://host:6379/0.
	RedisURL string
	// Addr is where the HTTP API listens. Default ":8080".
	Addr string
	// Migrate applies the pending migrations of both lines at start. Default: a
	// database without them is refused.
	Migrate bool
	// Topic is created with its dead letters if it is missing, and carries the
	// events. Default notification.v1.
	Topic string
	// AccountTopic is the same for the events of accounts and sessions. Default
	// account.v1.
	AccountTopic string
	// Partitions of a topic that is made. Default 6; -1 makes none and takes the
	// topic as it is.
	Partitions int
	// Relay is the name of the relay. Services of one name, and millrace relay
	// under it, stand in for each other. Default "relay".
	Relay string
	// Group is the consumer group of the views. Default "views".
	Group string
	// AuditGroup is the consumer group that writes every event down. Default "audit".
	AuditGroup string
	// Sending says how notifications are sent.
	Sending Sending
	// SessionGroup is the consumer group that tells Redis of revoked sessions.
	// Default "sessions".
	SessionGroup string
	// SessionLife is how long a login is good for. Default 12 h.
	SessionLife time.Duration
	// Repository says whose repositories the service writes through: "sql" or
	// "orm". They agree on everything. Default "sql".
	Repository string
	// DrainTimeout bounds each step of a graceful stop. Default 10 s.
	DrainTimeout time.Duration
	// Logger takes what an operator should know. Default: discarded.
	Logger *slog.Logger
	// Listening is called once with the address of the API. Default: nobody.
	Listening func(addr string)
}

func (c Config) withDefaults() Config {
	def(&c.Addr, ":8080")
	def(&c.Topic, codec.TopicNotification)
	def(&c.AccountTopic, codec.TopicAccount)
	def(&c.Partitions, 6)
	def(&c.Relay, "relay")
	def(&c.Group, "views")
	def(&c.SessionGroup, "sessions")
	c.sendingDefaults()
	def(&c.SessionLife, 12*time.Hour)
	def(&c.Repository, repositorySQL)
	def(&c.DrainTimeout, 10*time.Second)
	def(&c.Logger, slog.New(slog.DiscardHandler))
	if c.Listening == nil {
		c.Listening = func(string) {}
	}
	return c
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate names everything that is wrong, without asking any server.
func (c Config) Validate() error {
	c = c.withDefaults()
	errs := []error{c.validatePostgres(), c.validateRedis(), c.validateAccess(), c.validateSending()}
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("kafka: no address given, such as localhost:9092"))
	} else if err := (kafka.Config{Brokers: c.Brokers}).Validate(); err != nil {
		errs = append(errs, err)
	}
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		errs = append(errs, fmt.Errorf("addr: %w: give host:port or :port", err))
	}
	if c.Partitions < -1 || c.Partitions > 10_000 {
		errs = append(errs, fmt.Errorf("partitions: must be 1 to 10000, or -1 to make no topic, is %d", c.Partitions))
	}
	if c.SessionLife < time.Second {
		errs = append(errs, fmt.Errorf("session life: must be at least 1s, is %s", c.SessionLife))
	}
	if c.DrainTimeout < 0 {
		errs = append(errs, fmt.Errorf("drain timeout: must be positive, is %s", c.DrainTimeout))
	}
	return errors.Join(errs...)
}

func (c Config) validatePostgres() error {
	if c.DatabaseURL == "" {
		return errors.New("postgres: no address given, such as postgres://user@localhost:5432/db?sslmode=disable")
	}
	if _, err := pq.NewConfig(c.DatabaseURL); err != nil {
		return errors.New("postgres: the address cannot be read: give postgres://user@host:5432/db?sslmode=…") // err may show the password
	}
	return nil
}

func (c Config) validateRedis() error {
	if c.RedisURL == "" {
		return errors.New("redis: no address given, such as redis://localhost:6379/0")
	}
	if _, err := redis.ParseURL(c.RedisURL); err != nil {
		return errors.New("redis: the address cannot be read: give redis://host:6379/0") // as above
	}
	return nil
}

// postgresAddr and kafkaAddr name the servers for people, without secrets.
func (c Config) postgresAddr() string {
	cfg, err := pq.NewConfig(c.DatabaseURL)
	if err != nil {
		return "postgres"
	}
	return fmt.Sprintf("postgres at %s:%d", cfg.Host, cfg.Port)
}

func (c Config) kafkaAddr() string { return "kafka at " + strings.Join(c.Brokers, ",") }
