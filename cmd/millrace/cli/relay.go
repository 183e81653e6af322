package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/cmd/millrace/config"
	"github.com/millrace-go/millrace/cmd/millrace/doctor"
	"github.com/millrace-go/millrace/cmd/millrace/health"
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
without loss (a standby, missing migrations, a sequence with a cache) is refused.`,
		example: `  millrace relay --postgres postgres://app@localhost/app --kafka localhost:9092
  DATABASE_URL=… KAFKA_BROKERS=… millrace relay --http :8080 --log-format json`,
		settings: config.Use{
			Required: []config.Name{config.Postgres, config.Kafka},
			Optional: []config.Name{
				config.RelayName, config.Lease, config.DrainTimeout, config.BatchRows, config.BatchBytes,
				config.WindowRows, config.Retention, config.ListenPostgres, config.NoDoorbell, config.HTTP, config.Dev,
			},
		},
		run: func(ctx context.Context, c *call, _ []string) error { return c.relay(ctx) },
	})
}

func (c *call) relay(ctx context.Context) error {
	db, err := pgstore.Open(c.cfg.Postgres, pgstore.OpenConfig{})
	if err != nil {
		return usageError{err}
	}
	defer db.Close()
	store, err := pgstore.New(db, pgstore.Config{Retention: c.cfg.Retention})
	if err != nil {
		return err
	}
	defer store.Close()
	for _, check := range []func(context.Context) error{c.checkLog(store), c.checkBroker} {
		if err := c.wait(ctx, check); err != nil || ctx.Err() != nil {
			return err
		}
	}
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: c.cfg.Kafka, ClientID: "millrace-relay"})
	if err != nil {
		return err
	}
	err = c.carry(ctx, store, pub, c.bell(db))
	return errors.Join(err, pub.Close())
}

// carry runs the relay, its doorbell and its health endpoint until ctx ends.
func (c *call) carry(ctx context.Context, store *pgstore.Store, pub *kafka.Publisher, bell bell) error {
	var relay *outbox.Relay
	metrics, err := health.NewMetrics(readVersion().Version, c.cfg.RelayName, func() outbox.Status { return relay.Status() })
	if err != nil {
		return err
	}
	metrics.Doorbell(bell.working)
	relay, err = outbox.NewRelay(store, pub, outbox.RelayConfig{
		Name: c.cfg.RelayName, LeaseTTL: c.cfg.Lease, DrainTimeout: c.cfg.DrainTimeout,
		BatchRows: c.cfg.BatchRows, BatchBytes: c.cfg.BatchBytes,
		WindowRows: c.cfg.WindowRows, WindowBytes: max(32<<20, c.cfg.BatchBytes),
		Doorbell: bell.hung(), Hooks: metrics.Hooks(c.relayHooks()),
	})
	if err != nil {
		return usageError{err}
	}
	c.log.Info("relay starts", "relay", c.cfg.RelayName, "postgres", postgresHost(c.cfg.Postgres), "kafka", strings.Join(c.cfg.Kafka, ","))
	var listening sync.WaitGroup
	listen, deaf := context.WithCancel(ctx)
	defer listening.Wait()
	defer deaf()
	listening.Go(func() { bell.listen(listen, relay) })
	if c.cfg.HTTP == "" {
		return relay.Run(ctx)
	}
	listening.Go(func() { metrics.WatchLag(listen, lagOf(store, c.cfg.RelayName), 0) })
	l, err := net.Listen("tcp", c.cfg.HTTP)
	if err != nil {
		return fmt.Errorf("--http: %w: choose another port", err)
	}
	c.log.Info("health endpoint listens", "address", l.Addr().String())
	stop, served := make(chan struct{}), make(chan error, 1)
	go func() { served <- health.Serve(l, health.Handler(ctx, relay.Status, metrics.Registry), stop) }()
	err = relay.Run(ctx)
	close(stop)
	return errors.Join(err, <-served)
}

// lagOf is what one of the relays of store has still to do.
func lagOf(store *pgstore.Store, relay string) telemetry.LagFunc {
	return func(ctx context.Context) (telemetry.Lag, error) {
		lags, err := store.Lag(ctx)
		for _, l := range lags {
			if l.Relay == relay {
				return telemetry.Lag{Messages: l.Messages, Age: l.Age, Parked: l.Parked}, nil
			}
		}
		return telemetry.Lag{}, errors.Join(err, errors.New("the relay has not run yet"))
	}
}

// relayHooks write what a person wants to know to the log.
func (c *call) relayHooks() outbox.Hooks {
	return outbox.Hooks{
		Leading: func(epoch int64) { c.log.Info("relay leads", "epoch", epoch) },
		Stopped: func(epoch int64, err error) {
			if err == nil {
				c.log.Info("relay stopped; nothing is in flight", "epoch", epoch)
				return
			}
			c.log.Warn("relay lost the lead", "epoch", epoch, "error", err)
		},
		Parked: func(p outbox.Parked) {
			level := slog.LevelWarn
			if p.Reason == outbox.ReasonBehind { // there may be many
				level = slog.LevelDebug
			}
			c.log.Log(context.Background(), level, "message parked", "position", p.Position, "topic", p.Topic, "key", p.Key, "reason", p.Reason)
		},
		Retrying: func(err error, in time.Duration) {
			c.log.Warn("relay tries again", "error", err, "in", in.String(),
				"postgres", postgresHost(c.cfg.Postgres), "kafka", strings.Join(c.cfg.Kafka, ","))
		},
	}
}

// refusal is an error that waiting cannot mend.
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
			return fmt.Errorf("postgres at %s does not answer: %w: start it, or correct --postgres", postgresHost(c.cfg.Postgres), err)
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
