package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/health"
	"github.com/millrace-go/millrace/outbox"
)

// fleetWindow is about the maximum payload that the relays of one process hold
// together.
const fleetWindow = 64 << 20

// fleet serves the outboxes of --outboxes, spread over the instances that do.
func (c *call) fleet(ctx context.Context) (err error) {
	if c.cfg.ListenPostgres != "" {
		return usageError{fmt.Errorf("%s: goes with --postgres only: give --%s addresses that no pooler stands before", config.ListenPostgres, config.Outboxes)}
	}
	metrics, err := health.NewMetrics(readVersion().Version)
	if err != nil {
		return err
	}
	var sources []*source
	defer func() {
		for _, s := range sources {
			err = errors.Join(err, s.close())
		}
	}()
	var outboxes []outbox.FleetOutbox
	var hosts []string
	for _, o := range c.cfg.Outboxes {
		s, err := c.source(o, metrics)
		if err != nil {
			return err
		}
		sources = append(sources, s)
		outboxes = append(outboxes, outbox.FleetOutbox{Name: s.name, Log: s.store, Publisher: s.pub, Relay: s.share(len(c.cfg.Outboxes))})
		hosts = append(hosts, s.name+" at "+postgresHost(s.Postgres))
	}
	f, err := outbox.NewFleet(outboxes, outbox.FleetConfig{HandOverAfter: c.cfg.HandOverAfter})
	if err != nil {
		return usageError{err}
	}
	if err := c.wait(ctx, c.checkBroker); err != nil || ctx.Err() != nil {
		return err
	}
	for _, s := range sources {
		s.relay = f.Relay(s.name)
	}
	c.log.Info("relay starts", "relay", c.cfg.RelayName, "instance", f.Member(), "outboxes", strings.Join(hosts, ", "), "kafka", strings.Join(c.cfg.Kafka, ","))
	return c.carry(ctx, sources, metrics, f.Run)
}

// share is the relay's configuration with its share of the memory of n relays.
func (s *source) share(n int) outbox.RelayConfig {
	cfg := s.config()
	cfg.WindowBytes = min(cfg.WindowBytes, max(fleetWindow/n, 1<<20))
	cfg.BatchBytes = min(cfg.BatchBytes, cfg.WindowBytes)
	return cfg
}
