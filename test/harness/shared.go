package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/millrace-go/millrace/test/internal/fetch"
)

// sharedServers gives this process the servers that it shares with the other
// processes of the run, each opened at most once.
type sharedServers struct {
	mu       sync.Mutex
	use      *os.File // shared lock: while any process holds it, the servers stay
	postgres *PostgresServer
	kafka    *KafkaServer
	redis    *RedisServer
}

var shared sharedServers

// Postgres returns the server that the tests of this run share.
func (s *sharedServers) Postgres(ctx context.Context) (*PostgresServer, error) {
	return openOnce(ctx, &s.mu, &s.postgres, s.openPostgres)
}

// Kafka returns the broker that the tests of this run share; a twin belongs to
// this process alone.
func (s *sharedServers) Kafka(ctx context.Context) (*KafkaServer, error) {
	return openOnce(ctx, &s.mu, &s.kafka, s.openKafka)
}

// Redis returns the server that the tests of this run share; a twin belongs to
// this process alone.
func (s *sharedServers) Redis(ctx context.Context) (*RedisServer, error) {
	return openOnce(ctx, &s.mu, &s.redis, s.openRedis)
}

// openOnce returns what slot holds, and fills it first if it is empty.
func openOnce[T any, S interface {
	*T
	Info() Info
}](ctx context.Context, mu *sync.Mutex, slot *S, open func(context.Context) (S, error)) (S, error) {
	mu.Lock()
	defer mu.Unlock()
	if *slot != nil {
		return *slot, nil
	}
	opened, err := open(ctx)
	if err != nil {
		return nil, err
	}
	announce(opened.Info())
	*slot = opened
	return opened, nil
}

func (s *sharedServers) openPostgres(ctx context.Context) (*PostgresServer, error) {
	if url := os.Getenv(EnvPostgres); url != "" {
		return externalPostgres(ctx, url)
	}
	if _, err := fetch.FindPostgres(ctx); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	a, err := s.attach(ctx, "postgres")
	if err != nil {
		return nil, err
	}
	return &PostgresServer{Server: runningServer(a.Info, hostOf(a.URL)), dsn: a.URL, admin: a.URL}, nil
}

func (s *sharedServers) openKafka(ctx context.Context) (*KafkaServer, error) {
	if brokers := brokersFromEnv(); len(brokers) > 0 {
		return externalKafka(ctx, brokers)
	}
	if _, err := fetch.FindKafka(ctx); err != nil {
		return kfakeInstead(ctx, KafkaConfig{}, err)
	}
	a, err := s.attach(ctx, "kafka")
	if err != nil {
		return nil, err
	}
	return &KafkaServer{Server: runningServer(a.Info, a.URL), brokers: []string{a.URL}}, nil
}

func (s *sharedServers) openRedis(ctx context.Context) (*RedisServer, error) {
	if url := os.Getenv(EnvRedis); url != "" {
		return externalRedis(ctx, url)
	}
	if _, err := findRedis(); err != nil {
		return StartRedis(ctx, RedisConfig{})
	}
	a, err := s.attach(ctx, "redis")
	if err != nil {
		return nil, err
	}
	return &RedisServer{Server: runningServer(a.Info, hostOf(a.URL)), url: a.URL}, nil
}

// externalKafka returns the cluster if a test has asked for it and the harness
// did not start it, else nil.
func (s *sharedServers) externalKafka() *KafkaServer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kafka == nil || s.kafka.info.Kind != External {
		return nil
	}
	return s.kafka
}

// release stops the twins of this process and releases the shared servers.
func (s *sharedServers) release(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.kafka != nil {
		errs = append(errs, s.kafka.Stop(ctx))
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Stop(ctx))
	}
	if s.use != nil {
		errs = append(errs, s.use.Close())
	}
	s.use, s.postgres, s.kafka, s.redis = nil, nil, nil, nil
	return errors.Join(errs...)
}
