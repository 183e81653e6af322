package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/adapters/notifier/httpapi"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// service is everything that one Run holds.
type service struct {
	cfg Config
	log *slog.Logger

	db      *sql.DB
	redis   *redis.Client
	store   *pgstore.Store
	relayed *kafka.Publisher // what the relay publishes through
	dead    *kafka.Publisher // what dead letters are published through
	admin   *kafka.Admin

	cache    *cache.Store
	sessions *views.Sessions

	codec     *codec.Codec
	views     *views.Views
	gateway   *gateway.Gateway // nil if there is none
	sender    *app.Sender      // nil without a gateway
	inboxes   []*inbox.Inbox
	scheduler *schedule.Scheduler
	relay     *outbox.Relay
	listener  *pgstore.Listener
	notifier  *pgstore.Notifier
	router    *consumer.Router
	uow       *postgres.UnitOfWork
	app       *app.App
	access    *app.Access
	reports   *app.Reports
	api       *httpapi.API

	metrics metrics

	waiting atomic.Pointer[error] // why the work has not begun
	stopped atomic.Bool           // the stop has begun
}

// Run runs the service until ctx ends, then stops it: no new requests, those at
// work are answered, what the relay has in flight is acknowledged, the handlers
// at work finish. It returns nil after such a stop.
//
// What is wrong with cfg is reported at once, all of it. Servers that cannot be
// reached are waited for, while /livez answers and /readyz tells what is missing.
// An outbox that is not safe to read is an error.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return &ConfigError{Err: err}
	}
	s, err := build(cfg.withDefaults())
	if err != nil {
		return err
	}
	defer s.close()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("addr: %w: choose another address", err)
	}
	s.log.InfoContext(ctx, "service starts", "address", l.Addr().String(), "topic", s.cfg.Topic)
	s.cfg.Listening(l.Addr().String())
	return s.run(ctx, l)
}

// ConfigError means that the service was not started because of its Config.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return "configuration: " + e.Err.Error() }

// Unwrap returns the joined errors of the fields.
func (e *ConfigError) Unwrap() error { return e.Err }

// run serves and works side by side. The order of the stop is what makes it
// graceful: requests end first, since they append to the outbox.
func (s *service) run(ctx context.Context, l net.Listener) error {
	server := s.api.Server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- s.work(ctx, work) }()

	var cause error
	serving, working := true, true
	select {
	case <-ctx.Done():
	case cause = <-served:
		serving = false
	case cause = <-worked:
		working = false
	}
	s.stopped.Store(true)
	s.log.InfoContext(ctx, "service stops")
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	if err := server.Shutdown(draining); err != nil {
		cause = errors.Join(cause, fmt.Errorf("requests still at work: %w", err), server.Close())
	}
	if serving {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			cause = errors.Join(cause, err)
		}
	}
	stop()
	if working {
		cause = errors.Join(cause, <-worked)
	}
	return cause
}

// work waits for the servers, until ctx ends, and then relays and consumes until
// work ends.
func (s *service) work(ctx, work context.Context) error {
	if err := s.prepare(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	g, work := errgroup.WithContext(work)
	g.Go(func() error { return s.relay.Run(work) })
	g.Go(func() error { return s.router.Run(work) })
	g.Go(func() error { return s.listen(work) })
	g.Go(func() error { return s.notifier.Run(work) })
	g.Go(func() error { return s.watch(work) })
	g.Go(func() error { return s.cache.Run(work) })
	g.Go(func() error { return s.scheduler.Run(work) })
	for _, i := range s.inboxes {
		g.Go(func() error { return i.Run(work) })
	}
	return g.Wait()
}

// ready is the truth about the work: nothing is waited for, Postgres answers,
// messages move, and no dead letter is held up. Redis is not asked for: without
// it requests are answered from Postgres.
func (s *service) ready(ctx context.Context) error {
	if s.stopped.Load() {
		return errors.New("stopping")
	}
	if why := s.waiting.Load(); why != nil {
		return *why
	}
	var errs []error
	if err := s.db.PingContext(ctx); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", s.cfg.postgresAddr(), err))
	}
	if st := s.relay.Status(); !st.Ready(time.Now(), 15*time.Second) {
		errs = append(errs, errors.Join(errors.New("relay: messages do not move"), st.Err))
	}
	if n := s.router.Status().DeadLettersBlocked; n > 0 {
		errs = append(errs, fmt.Errorf("consumer: %d dead letters cannot be published", n))
	}
	return errors.Join(errs...)
}

// build wires the parts. It does no I/O.
func build(cfg Config) (*service, error) {
	s := &service{cfg: cfg, log: cfg.Logger}
	starting := errors.New("starting")
	s.waiting.Store(&starting)
	tracer := telemetry.Tracer{}
	s.codec = codec.New(codec.Config{Traceparent: tracer.Traceparent, Topic: cfg.topic})
	for _, step := range []func() error{s.buildClients, s.buildMetrics, s.buildViews, s.buildWriting, s.buildAccess, s.buildSending, s.buildJobs, s.buildConsuming} {
		if err := step(); err != nil {
			s.close()
			return nil, err
		}
	}
	var err error
	s.api, err = httpapi.New(s.app, httpapi.Config{
		Ready: s.ready, Trace: telemetry.HTTP, Logger: s.log, Access: s.access, Reports: s.reports,
		Metrics: s.metrics.handler(),
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// buildWriting wires the use cases, the outbox and the relay.
func (s *service) buildWriting() (err error) {
	if err = s.buildWakeUps(); err != nil {
		return err
	}
	s.relay, err = outbox.NewRelay(s.store, s.relayed, outbox.RelayConfig{
		Name: s.cfg.Relay, DrainTimeout: s.cfg.DrainTimeout, Listener: s.listener, Hooks: s.relayHooks(),
	})
	if err != nil {
		return err
	}
	writer, err := outbox.NewWriter(s.store, outbox.WriterConfig{Wake: s.wake})
	if err != nil {
		return err
	}
	if s.uow, err = postgres.NewUnitOfWork(s.db, writer, s.codec, s.repositories()); err != nil {
		return err
	}
	s.app, err = app.New(s.uow, postgres.NewReader(s.db), s.views, app.Config{
		Retry: s.cfg.Sending.Retry, Tracer: telemetry.Tracer{},
		ViewFailed: func(ctx context.Context, err error) {
			s.log.WarnContext(ctx, "view not reached", "error", err)
		},
	})
	return err
}

// close frees what build and run made, in the order of use.
func (s *service) close() {
	for _, pub := range []*kafka.Publisher{s.relayed, s.dead} {
		if pub != nil {
			s.logClose("kafka publisher", pub.Close())
		}
	}
	if s.admin != nil {
		s.logClose("kafka admin", s.admin.Close())
	}
	if s.cache != nil {
		s.logClose("cache", s.cache.Close())
	}
	if s.gateway != nil {
		s.logClose("gateway", s.gateway.Close())
	}
	if s.redis != nil {
		s.logClose("redis", s.redis.Close())
	}
	if s.store != nil {
		s.logClose("outbox store", s.store.Close())
	}
	if s.db != nil {
		s.logClose("postgres", s.db.Close())
	}
}

func (s *service) logClose(what string, err error) {
	if err != nil {
		s.log.Warn("close", "what", what, "error", err)
	}
}
