// Package servers gives demo and bench the servers they run on: those of given
// addresses, or ones that it starts and stops.
package servers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/test/harness"
)

// Config says which servers to use.
type Config struct {
	// Postgres, Kafka and Redis are addresses of servers to use. Empty: one is
	// started and thrown away at the end. In a given Postgres a database is made
	// for the run, and dropped; its user must be allowed to.
	Postgres string
	Kafka    []string
	Redis    string
	// Real starts real Kafka and Redis servers; otherwise in-process twins.
	// Postgres is always real.
	Real bool
	// Durable makes a started Postgres sync its log to disk at each commit.
	Durable bool
	// NoRedis leaves Redis out.
	NoRedis bool
	// NoKafka leaves Kafka out, NoPostgres Postgres.
	NoKafka, NoPostgres bool
}

func (c Config) postgres() harness.PostgresConfig {
	return harness.PostgresConfig{URL: c.Postgres, Durable: c.Durable}
}

func (c Config) kafka() harness.KafkaConfig {
	return harness.KafkaConfig{Brokers: c.Kafka, Real: c.Real, Twin: !c.Real}
}

func (c Config) redis() harness.RedisConfig {
	return harness.RedisConfig{URL: c.Redis, Real: c.Real, Twin: !c.Real}
}

// Set is the servers of one run.
type Set struct {
	Postgres string // DSN
	Kafka    []string
	Redis    string // URL; empty with NoRedis
	Names    Names

	shared bool     // the cluster was given
	topics []string // to delete from it
	stops  []func(context.Context) error
}

// Names says which server served, for people and for JSON.
type Names struct {
	Postgres string `json:"postgres,omitempty"`
	Kafka    string `json:"kafka,omitempty"`
	Redis    string `json:"redis,omitempty"`
}

const startTimeout = 5 * time.Minute // a first start may fetch what it needs

// Start brings the servers up. The set is to be stopped also after an error.
func Start(ctx context.Context, cfg Config) (*Set, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s := &Set{shared: len(cfg.Kafka) > 0}
	var pg *harness.PostgresServer
	var kafka *harness.KafkaServer
	var redis *harness.RedisServer
	var g errgroup.Group
	if !cfg.Real {
		g.SetLimit(1) // twins first, without a fork beside them: a child inherits their probed ports until it execs
	}
	if !cfg.NoRedis {
		g.Go(func() (err error) { redis, err = harness.StartRedis(ctx, cfg.redis()); return err })
	}
	if !cfg.NoKafka {
		g.Go(func() (err error) { kafka, err = harness.StartKafka(ctx, cfg.kafka()); return err })
	}
	if !cfg.NoPostgres {
		g.Go(func() (err error) { pg, err = harness.StartPostgres(ctx, cfg.postgres()); return err })
	}
	err := g.Wait()
	if redis != nil {
		s.Redis, s.Names.Redis = redis.URL(), name(redis.Info())
		s.stops = append(s.stops, redis.Stop)
	}
	if kafka != nil {
		s.Kafka, s.Names.Kafka = kafka.Brokers(), name(kafka.Info())
		s.stops = append(s.stops, kafka.Stop)
	}
	if pg != nil {
		s.Postgres, s.Names.Postgres = pg.DSN(), name(pg.Info())
		if err == nil && cfg.Postgres != "" {
			err = s.ownDatabase(ctx)
		}
		s.stops = append(s.stops, pg.Stop)
	}
	return s, err
}

// CreateTopic makes a topic and waits until it can be written; one that exists
// is left as it is. On a cluster that was given it is deleted at the end.
func (s *Set) CreateTopic(ctx context.Context, name string, partitions int) error {
	err := harness.CreateTopic(ctx, s.Kafka, name, partitions)
	if err == nil && s.shared {
		s.topics = append(s.topics, name)
	}
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}

// Stop ends what Start started and removes its data.
func (s *Set) Stop(ctx context.Context) error {
	var errs []error
	if len(s.topics) > 0 {
		errs = append(errs, s.deleteTopics(ctx))
	}
	for _, stop := range s.stops {
		errs = append(errs, stop(ctx))
	}
	return errors.Join(errs...)
}

func (s *Set) deleteTopics(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Kafka...))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = kadm.NewClient(cl).DeleteTopics(ctx, s.topics...)
	return err
}

// name says what a reader of results has to know: version, and whether it is
// the real thing.
func name(i harness.Info) string {
	switch i.Kind {
	case harness.Twin:
		return fmt.Sprintf("%s (in-process test server, not the real %s)", i.Version, i.Name)
	case harness.External:
		return fmt.Sprintf("%s (%s)", i.Version, i.How)
	}
	return i.Version
}
