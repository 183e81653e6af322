package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
	"github.com/millrace-go/millrace/cmd/millrace/internal/doctor"
	"github.com/millrace-go/millrace/cmd/millrace/internal/health"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// retryMax caps the pause between tries to reach a server at start.
const retryMax = 5 * time.Second

func (a *app) relay() *cobra.Command {
	return a.command(spec{
		use: "relay", short: "Carry committed messages from Postgres to Kafka",
		long: `Runs until SIGTERM or SIGINT, then waits for what is in flight, saves its cursor
and exits with 0. Of several relays with one name one leads and the others stand
by. A server that does not answer is waited for. A database that cannot be read
without loss (a standby, missing migrations, a sequence with a cache) is refused.

With --outboxes it serves several outboxes, each with a lease of its own. Start it
more than once, and the instances spread them: a new one is handed its share, and
what a dead one led is taken by the others. One that is refused, or whose database
does not answer, is tried again and does not stop the others.`,
		example: `  millrace relay --postgres postgres://app@localhost/app --kafka localhost:9092
  DATABASE_URL=… KAFKA_BROKERS=… millrace relay --http :8080 --log-format json
  millrace relay --kafka localhost:9092 --outboxes orders=postgres://app@db1/shop,billing=postgres://app@db2/billing`,
		settings: config.Use{
			Required: []config.Name{config.Kafka},
			Either:   []config.Name{config.Postgres, config.Outboxes},
			Optional: []config.Name{
				config.RelayName, config.Lease, config.HandOverAfter, config.DrainTimeout, config.BatchRows, config.BatchBytes,
				config.WindowRows, config.Retention, config.ListenPostgres, config.NoListen, config.HTTP, config.Dev,
			},
		},
		run: func(ctx context.Context, c *call, _ []string) error {
			if len(c.cfg.Outboxes) > 0 {
				return c.fleet(ctx)
			}
			return c.relay(ctx)
		},
	})
}

// relay serves the one outbox of --postgres.
func (c *call) relay(ctx context.Context) (err error) {
	metrics, err := health.NewMetrics(readVersion().Version)
	if err != nil {
		return err
	}
	s, err := c.source(config.Outbox{Postgres: c.cfg.Postgres}, metrics)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, check := range []func(context.Context) error{c.checkLog(s.store), c.checkBroker} {
		if err := c.wait(ctx, check); err != nil || ctx.Err() != nil {
			return err
		}
	}
	if s.relay, err = outbox.NewRelay(s.store, s.pub, s.config()); err != nil {
		return usageError{err}
	}
	c.log.Info("relay starts", "relay", c.cfg.RelayName, "postgres", postgresHost(c.cfg.Postgres), "kafka", strings.Join(c.cfg.Kafka, ","))
	return c.carry(ctx, []*source{s}, metrics, s.relay.Run)
}

// carry runs the relays of sources, their listeners and the health endpoint until
// ctx ends.
func (c *call) carry(ctx context.Context, sources []*source, metrics *health.Metrics, run func(context.Context) error) error {
	var listening sync.WaitGroup
	listen, deaf := context.WithCancel(ctx)
	defer listening.Wait()
	defer deaf()
	var outboxes []health.Outbox
	for _, s := range sources {
		s.metrics.Follow(s.relay.Status)
		outboxes = append(outboxes, health.Outbox{Name: s.name, Status: s.relay.Status})
		listening.Go(func() { s.wakeUps.listen(listen, s.relay) })
		if c.cfg.HTTP != "" {
			listening.Go(func() {
				s.metrics.WatchLag(listen, func(ctx context.Context) (outbox.Lag, error) { return s.store.LagOf(ctx, c.cfg.RelayName) }, 0)
			})
		}
	}
	if c.cfg.HTTP == "" {
		return run(ctx)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.cfg.HTTP)
	if err != nil {
		return fmt.Errorf("--http: %w: choose another port", err)
	}
	c.log.Info("health endpoint listens", "address", l.Addr().String())
	stop, served := make(chan struct{}), make(chan error, 1)
	go func() { served <- health.Serve(l, health.Handler(ctx, outboxes, metrics.Registry), stop) }()
	err = run(ctx)
	close(stop)
	return errors.Join(err, <-served)
}

// refusal is an error that waiting cannot cure.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// wait repeats try until it succeeds, refuses, or ctx ends, and logs each failure.
func (c *call) wait(ctx context.Context, try func(context.Context) error) error {
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, retryMax) {
		err := try(ctx)
		var no refusal
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if errors.As(err, &no) {
			return no.error
		}
		c.log.Warn("waiting for a server", "error", err, "again_in", pause.String())
		pauseFor(ctx, pause)
	}
}

// checkLog refuses a log that the relay would refuse.
func (c *call) checkLog(store *pgstore.Store) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		err := store.Check(ctx)
		switch {
		case errors.Is(err, outbox.ErrUnsafeLog):
			return refusal{err}
		case err != nil:
			return unreachable(c.cfg.Postgres, err)
		}
		return nil
	}
}

// checkBroker refuses an in-process test broker, which keeps nothing, unless
// --dev allows it.
func (c *call) checkBroker(ctx context.Context) error {
	adm, cluster, err := reachKafka(ctx, c.cfg.Kafka)
	if err != nil {
		return err
	}
	adm.Close()
	if doctor.IsTestCluster(cluster) && !c.cfg.Dev {
		return refusal{usageError{fmt.Errorf("kafka at %s is an in-process test broker (cluster id %q) that keeps nothing: give --dev to use it all the same",
			strings.Join(c.cfg.Kafka, ","), cluster)}}
	}
	return nil
}
