package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Options says what Start is to start. The zero value asks for a real Postgres in a
// temporary folder, and the in-process twins of Kafka and Redis.
type Options struct {
	// Real asks for real Kafka and Redis servers as well.
	Real     bool
	Postgres PostgresConfig
	Kafka    KafkaConfig
	Redis    RedisConfig
}

// OptionsFromEnv returns the options with the addresses that EnvPostgres,
// EnvKafka and EnvRedis give.
func OptionsFromEnv() Options {
	return Options{
		Postgres: PostgresConfig{URL: os.Getenv(EnvPostgres)},
		Kafka:    KafkaConfig{Brokers: brokersFromEnv()},
		Redis:    RedisConfig{URL: os.Getenv(EnvRedis)},
	}
}

// Servers are the three servers of a pipeline.
type Servers struct {
	Postgres *PostgresServer
	Kafka    *KafkaServer
	Redis    *RedisServer
}

// Start starts the servers of a pipeline, or connects to those that run already, and
// writes one line a server to log. If one does not start, the others are
// stopped. The caller stops them; should this process end without that, they end
// by themselves.
func Start(ctx context.Context, opt Options, log io.Writer) (*Servers, error) {
	if opt.Real {
		opt.Kafka.Real, opt.Redis.Real = true, true
	} else {
		opt.Kafka.Twin, opt.Redis.Twin = !opt.Kafka.Real, !opt.Redis.Real
	}
	s := &Servers{}
	if err := s.start(ctx, opt, log); err != nil {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return nil, errors.Join(err, s.Stop(stopping))
	}
	return s, nil
}

func (s *Servers) start(ctx context.Context, opt Options, log io.Writer) (err error) {
	if s.Postgres, err = StartPostgres(ctx, opt.Postgres); err != nil {
		return err
	}
	fmt.Fprintln(log, s.Postgres.Info())
	if s.Kafka, err = StartKafka(ctx, opt.Kafka); err != nil {
		return err
	}
	fmt.Fprintln(log, s.Kafka.Info())
	if s.Redis, err = StartRedis(ctx, opt.Redis); err != nil {
		return err
	}
	fmt.Fprintln(log, s.Redis.Info())
	return nil
}

// Stop stops what Start started and removes its data.
func (s *Servers) Stop(ctx context.Context) error {
	var errs []error
	if s.Redis != nil {
		errs = append(errs, s.Redis.Stop(ctx))
	}
	if s.Kafka != nil {
		errs = append(errs, s.Kafka.Stop(ctx))
	}
	if s.Postgres != nil {
		errs = append(errs, s.Postgres.Stop(ctx))
	}
	return errors.Join(errs...)
}
