package cli

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/health"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// source is one outbox that the relay command serves, with everything that
// belongs to it alone: pool, publisher, listener, metrics.
type source struct {
	config.Outbox
	name    string // that of the outbox; empty if it is the only one
	c       *call
	log     *slog.Logger
	db      *sql.DB
	store   *pgstore.Store
	pub     *kafka.Publisher
	wakeUps wakeUps
	metrics *telemetry.RelayMetrics
	relay   *outbox.Relay // set by the caller
}

// source opens o and connects to nothing.
func (c *call) source(o config.Outbox, metrics *health.Metrics) (_ *source, err error) {
	s := &source{Outbox: o, name: o.Name, c: c, log: c.log}
	if s.name != "" {
		s.log = c.log.With("outbox", s.name)
	}
	if s.db, err = pgstore.Open(o.Postgres, pgstore.OpenConfig{}); err != nil {
		return nil, usageError{err}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.store, err = pgstore.New(s.db, pgstore.Config{Retention: c.cfg.Retention}); err != nil {
		return nil, err
	}
	if s.pub, err = kafka.NewPublisher(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-relay"}); err != nil {
		return nil, err
	}
	if s.wakeUps, err = c.listener(o.Postgres, s.db, s.log); err != nil {
		return nil, err
	}
	if s.metrics, err = metrics.Relay(s.name, c.cfg.RelayName); err != nil {
		return nil, err
	}
	return s, metrics.Listener(s.name, s.wakeUps.working)
}

func (s *source) close() error {
	var errs []error
	if s.pub != nil {
		errs = append(errs, s.pub.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(append(errs, s.db.Close())...)
}

// config is that of the source's relay.
func (s *source) config() outbox.RelayConfig {
	cfg := s.c.cfg
	return outbox.RelayConfig{
		Name: cfg.RelayName, LeaseTTL: cfg.Lease, DrainTimeout: cfg.DrainTimeout,
		BatchRows: cfg.BatchRows, BatchBytes: cfg.BatchBytes,
		WindowRows: cfg.WindowRows, WindowBytes: max(32<<20, cfg.BatchBytes),
		Listener: s.wakeUps.orNil(), Hooks: s.metrics.Hooks(s.hooks()),
	}
}

// hooks write what a person wants to know to the log.
func (s *source) hooks() outbox.Hooks {
	return outbox.Hooks{
		Leading: func(epoch int64) { s.log.Info("relay leads", "epoch", epoch) },
		Stopped: func(epoch int64, err error) {
			if err == nil {
				s.log.Info("relay stopped; nothing is in flight", "epoch", epoch)
				return
			}
			s.log.Warn("relay lost the lead", "epoch", epoch, "error", err)
		},
		HandingOver: func(to outbox.Member) {
			s.log.Info("relay hands over", "to", to.ID, "which_leads", to.Leads)
		},
		Unsaved: func(rows int) { s.log.Warn("messages may come twice", "at_most", rows) },
		Parked: func(p outbox.Parked) {
			level := slog.LevelWarn
			if p.Reason == outbox.ReasonBehind { // there may be many
				level = slog.LevelDebug
			}
			s.log.Log(context.Background(), level, "message parked", "position", p.Position, "topic", p.Topic, "key", p.Key, "reason", p.Reason)
		},
		Retrying: func(err error, in time.Duration) {
			s.log.Warn("relay tries again", "error", err, "in", in.String(),
				"postgres", postgresHost(s.Postgres), "kafka", strings.Join(s.c.cfg.Kafka, ","))
		},
	}
}
