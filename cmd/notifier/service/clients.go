package service

import (
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// maxConns leaves room for several services on one Postgres of 100 connections.
const maxConns = 30

// buildClients makes the clients of the three servers; none connects yet.
func (s *service) buildClients() (err error) {
	if s.db, err = pgstore.Open(s.cfg.DatabaseURL, pgstore.OpenConfig{}); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(maxConns)
	s.db.SetMaxIdleConns(maxConns)
	s.db.SetConnMaxIdleTime(time.Minute)
	if s.store, err = pgstore.New(s.db, pgstore.Config{Retention: pgstore.Forever}); err != nil { // a job drops what is delivered
		return err
	}
	opt, err := redis.ParseURL(s.cfg.RedisURL)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	cache.Harden(opt) // a slow Redis must not slow the readers down: they have Postgres
	opt.PoolSize = 64
	s.redis = redis.NewClient(opt)
	brokers := kafka.Config{Brokers: s.cfg.Brokers, ClientID: "notifier", CloseTimeout: s.cfg.DrainTimeout}
	if s.relayed, err = kafka.NewPublisher(brokers); err != nil {
		return err
	}
	if s.dead, err = kafka.NewPublisher(brokers); err != nil {
		return err
	}
	s.admin, err = kafka.NewAdmin(brokers)
	return err
}

// buildViews makes the cache and the views, which tell the metrics what they do.
func (s *service) buildViews() (err error) {
	if s.cache, err = cache.NewStore(s.redis, cache.StoreConfig{Hooks: s.cacheHooks()}); err != nil {
		return err
	}
	s.views, err = views.New(s.redis, s.cache, postgres.NewReader(s.db), views.Config{})
	return err
}
