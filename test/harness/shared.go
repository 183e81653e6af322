package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
)

// clerk gives this process its shared servers, each at most once.
type clerk struct {
	mu       sync.Mutex
	presence *os.File // shared lock: while anybody holds it, the servers stay
	postgres *PostgresServer
	kafka    *KafkaServer
	redis    *RedisServer
}

var shared clerk

// Postgres returns the server that the tests of this run share.
func (c *clerk) Postgres(ctx context.Context) (*PostgresServer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.postgres != nil {
		return c.postgres, nil
	}
	p, err := c.openPostgres(ctx)
	if err != nil {
		return nil, err
	}
	announce(p.info)
	c.postgres = p
	return p, nil
}

func (c *clerk) openPostgres(ctx context.Context) (*PostgresServer, error) {
	if url := os.Getenv(EnvPostgres); url != "" {
		return ExternalPostgres(ctx, url)
	}
	if _, err := findPostgres(ctx); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	t, err := c.attach(ctx, "postgres")
	if err != nil {
		return nil, err
	}
	p := &PostgresServer{dsn: t.Address, admin: t.Address}
	p.info, p.addr, p.backend, p.up = t.Info, hostOf(t.Address), external{}, true
	return p, nil
}

// Kafka returns the broker that the tests of this run share; a twin is this
// process's own.
func (c *clerk) Kafka(ctx context.Context) (*KafkaServer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kafka != nil {
		return c.kafka, nil
	}
	k, err := c.openKafka(ctx)
	if err != nil {
		return nil, err
	}
	announce(k.info)
	c.kafka = k
	return k, nil
}

// opened is the cluster if a test has asked for it, else nil.
func (c *clerk) opened() *KafkaServer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kafka
}

func (c *clerk) openKafka(ctx context.Context) (*KafkaServer, error) {
	if brokers := brokersFromEnv(); len(brokers) > 0 {
		return ExternalKafka(ctx, brokers...)
	}
	if _, err := findKafka(ctx); errors.Is(err, ErrNotInstalled) {
		return StartKafka(ctx, KafkaConfig{})
	} else if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	t, err := c.attach(ctx, "kafka")
	if err != nil {
		return nil, err
	}
	k := &KafkaServer{brokers: []string{t.Address}}
	k.info, k.addr, k.backend, k.up = t.Info, t.Address, external{}, true
	return k, nil
}

// Redis returns the server that the tests of this run share; a twin is this
// process's own.
func (c *clerk) Redis(ctx context.Context) (*RedisServer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.redis != nil {
		return c.redis, nil
	}
	r, err := c.openRedis(ctx)
	if err != nil {
		return nil, err
	}
	announce(r.info)
	c.redis = r
	return r, nil
}

func (c *clerk) openRedis(ctx context.Context) (*RedisServer, error) {
	if url := os.Getenv(EnvRedis); url != "" {
		return ExternalRedis(ctx, url)
	}
	if _, err := findRedis(); err != nil {
		return StartRedis(ctx, RedisConfig{})
	}
	t, err := c.attach(ctx, "redis")
	if err != nil {
		return nil, err
	}
	r := &RedisServer{url: t.Address}
	r.info, r.addr, r.backend, r.up = t.Info, hostOf(t.Address), external{}, true
	return r, nil
}

// release stops the twins of this process and leaves the shared servers.
func (c *clerk) release(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	if c.kafka != nil {
		errs = append(errs, c.kafka.Stop(ctx))
	}
	if c.redis != nil {
		errs = append(errs, c.redis.Stop(ctx))
	}
	if c.presence != nil {
		errs = append(errs, c.presence.Close())
	}
	c.presence, c.postgres, c.kafka, c.redis = nil, nil, nil, nil
	return errors.Join(errs...)
}
