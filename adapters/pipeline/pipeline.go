package pipeline

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// ErrClosed means that Run was called before: a Pipeline runs once.
var ErrClosed = errors.New("pipeline has run already: make a new one")

// Pipeline is Millrace in a service. New makes it; Group, Handle and Job give it
// work; Run does the work. It is safe for concurrent use.
type Pipeline struct {
	db    *sql.DB
	cfg   Config
	parts Parts
	admin *kafka.Admin
	dead  *kafka.Publisher // what dead letters are published through
	count *metrics
	state state

	userKafka kafka.Hooks // of Config.Kafka, for each subscriber too

	mu      sync.Mutex
	started bool
	groups  []*Group
	jobs    []schedule.Job
	wiring  []error // what is wrong with groups and jobs

	handlers int // that the router has
}

// Parts are what a Pipeline is made of. They may be used beside it; Run runs and
// closes them.
type Parts struct {
	Store     *pgstore.Store
	Publisher *kafka.Publisher // of the relay alone
	Relay     *outbox.Relay
	Writer    *outbox.Writer
	Listener  *pgstore.Listener // nil without Config.ListenDSN
	Notifier  *pgstore.Notifier
	Router    *consumer.Router
	Locker    *lock.Locker
	Cache     *cache.Store // nil without Config.Redis
}

// New returns a pipeline on the outbox in db and the Kafka cluster that brokers
// belong to. It does no I/O. The error names everything that is wrong with cfg.
// db stays the caller's to close, after Run has returned; a pool that pgstore.Open
// made does not wait forever for a server that is silent.
func New(db *sql.DB, brokers []string, cfg Config) (*Pipeline, error) {
	err := cfg.validate()
	if db == nil {
		err = errors.Join(errors.New("db: must be a database, is nil"), err)
	}
	cfg.DrainTimeout = max(cfg.DrainTimeout, 0) // a wrong one is named, and not derived from
	p := &Pipeline{db: cmp.Or(db, &sql.DB{}), cfg: cfg.withDefaults()}
	p.cfg.Kafka.Brokers = brokers
	count, broken := newMetrics(p.db, p.cfg.Relay.Name)
	if broken != nil {
		return nil, titled(errors.Join(err, broken))
	}
	p.count = count
	err = errors.Join(err, p.buildKafka(), p.buildOutbox(), p.buildConsumer(), p.buildJobs(), p.buildCache())
	if err == nil {
		err = under("Registry", p.count.register(p.cfg.Registry))
	}
	if err != nil {
		return nil, titled(err)
	}
	return p, nil
}

func (p *Pipeline) buildKafka() error {
	p.userKafka = p.cfg.Kafka.Hooks
	p.cfg.Kafka.Hooks = p.kafkaHooks("").Tee(p.cfg.Kafka.Hooks)
	var err error
	if p.parts.Publisher, err = kafka.NewPublisher(p.cfg.Kafka); err != nil {
		return under("Kafka", err)
	}
	if p.dead, err = kafka.NewPublisher(p.cfg.Kafka); err != nil {
		return under("Kafka", err)
	}
	p.admin, err = kafka.NewAdmin(p.cfg.Kafka)
	return under("Kafka", err)
}

func (p *Pipeline) buildOutbox() (err error) {
	var errs []error
	if p.parts.Store, err = pgstore.New(p.db, p.cfg.Store); err != nil {
		return under("Store", err)
	}
	if p.parts.Notifier, err = pgstore.NewNotifier(p.db); err != nil {
		return err
	}
	if p.cfg.ListenDSN != "" {
		p.parts.Listener, err = pgstore.NewListener(p.cfg.ListenDSN, p.db, p.cfg.Relay.Name)
		errs = append(errs, under("ListenDSN", err))
		p.cfg.Relay.Listener = p.parts.Listener
	}
	p.cfg.Relay.Hooks = p.relayHooks()
	p.parts.Relay, err = outbox.NewRelay(p.parts.Store, p.relayPublisher(), p.cfg.Relay)
	errs = append(errs, under("Relay", err))
	p.cfg.Writer.Wake = p.wake
	p.parts.Writer, err = outbox.NewWriter(telemetry.TraceAppender(p.parts.Store, p.cfg.Tracer), p.cfg.Writer)
	return errors.Join(append(errs, under("Writer", err))...)
}

func (p *Pipeline) relayPublisher() message.Publisher {
	if p.cfg.Tracer == nil || p.parts.Publisher == nil {
		return p.parts.Publisher
	}
	return telemetry.TracePublisher(p.parts.Publisher, p.cfg.Tracer)
}

func (p *Pipeline) buildConsumer() (err error) {
	p.cfg.Consumer.Hooks = p.consumerHooks()
	p.parts.Router, err = consumer.New(p.dead, p.cfg.Consumer)
	return under("Consumer", err)
}

func (p *Pipeline) buildJobs() error {
	locks, err := lock.NewPostgres(p.db)
	if err != nil {
		return under("JobLocks", err)
	}
	p.cfg.JobLocks.Hooks = p.lockHooks()
	p.parts.Locker, err = lock.NewLocker(locks, p.cfg.JobLocks)
	return under("JobLocks", err)
}

func (p *Pipeline) buildCache() (err error) {
	if p.cfg.Redis == nil {
		return nil
	}
	p.cfg.Cache.Hooks = p.cacheHooks()
	p.parts.Cache, err = cache.NewStore(p.cfg.Redis, p.cfg.Cache)
	return under("Cache", err)
}

// Parts returns what the pipeline is made of.
func (p *Pipeline) Parts() Parts { return p.parts }

// Writer returns the writer of the outbox, which Append uses.
func (p *Pipeline) Writer() *outbox.Writer { return p.parts.Writer }

// Append stores msgs in tx, as outbox.Writer.Append does, with the trace of ctx in
// their headers. Call Writer().Wake after the commit, or leave both to InTx.
// It works whether or not the pipeline runs: messages wait for the next Run.
func (p *Pipeline) Append(ctx context.Context, tx *sql.Tx, msgs ...outbox.Message) error {
	return p.parts.Writer.Append(ctx, tx, msgs...)
}

// InTx calls work with a transaction, commits it and wakes the relay. If work fails
// or panics, the transaction is rolled back. Nothing is tried twice.
func (p *Pipeline) InTx(ctx context.Context, work func(ctx context.Context, tx *sql.Tx) error) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := work(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	p.parts.Writer.Wake()
	return nil
}

// wake makes the leading relay read after a commit: by a call if it runs here.
func (p *Pipeline) wake() {
	if p.parts.Relay.Status().Leading {
		p.parts.Relay.Wake()
		return
	}
	p.parts.Notifier.Notify()
}
