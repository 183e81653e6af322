package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lib/pq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/internal/topics"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/outbox/record"
)

// Config configures a Pipeline. The zero value is usable. The configs of the parts
// keep their own defaults; their hooks are called after those of the pipeline,
// which log and count.
type Config struct {
	// ListenDSN is the Postgres address of the database, for the one connection on
	// which an idle relay listens for commits of other processes. It must not lead
	// through a pooler in transaction mode. Default none: the relay polls.
	ListenDSN string
	// Migrate applies the pending migrations of the outbox when Run starts. Default:
	// a database without them ends Run with an error that says so.
	Migrate bool
	// Topics are made when Run starts, each with its dead-letter topic, if they are
	// missing; if one that exists differs, none is made. Default none: consumed topics that do not exist are waited for.
	Topics []kafka.Topic
	// Redis is where Parts.Cache keeps its entries; its client needs the limits of
	// cache.Options. Run maintains the cache. Default none: there is no cache.
	Redis *redis.Client
	// Checks are asked by /readyz too, by name: what the service needs besides
	// Postgres and Kafka. Default none.
	Checks map[string]func(context.Context) error

	// Kafka says how to reach the brokers: TLS, SASL, sizes. Brokers must be empty.
	Kafka kafka.Config
	// Store configures the outbox in Postgres.
	Store pgstore.Config
	// Relay configures the relay; its name is Relay.Name.
	Relay outbox.RelayConfig
	// Writer configures Append. Wake must be nil.
	Writer outbox.WriterConfig
	// Consumer configures the handlers of all groups: retries, timeouts.
	Consumer consumer.Config
	// Jobs configures the scheduler, JobLocks the locks of the jobs, in Postgres.
	Jobs     schedule.SchedulerConfig
	JobLocks lock.Config
	// Cache configures the cache in Redis.
	Cache cache.StoreConfig

	// NoPrepare prepares no statements: needed behind a pooler that knows none, and
	// one more round trip for each Append. Default: Run prepares them.
	NoPrepare bool
	// DrainTimeout bounds each step of a graceful stop where the part's own config
	// says nothing. Default 10 s.
	DrainTimeout time.Duration
	// Logger takes what an operator should know; trace ids are added to its lines.
	// Default slog.Default().
	Logger *slog.Logger
	// Registry takes the metrics. Default: a new one, with those of the process.
	Registry *prometheus.Registry
	// Tracer makes OpenTelemetry spans of appends, sends and deliveries. Default
	// none: trace ids are carried on all the same.
	Tracer oteltrace.Tracer
}

func (c Config) withDefaults() Config {
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.Kafka.CloseTimeout = cmp.Or(c.Kafka.CloseTimeout, c.DrainTimeout)
	c.Relay.DrainTimeout = cmp.Or(c.Relay.DrainTimeout, c.DrainTimeout)
	c.Consumer.DrainTimeout = cmp.Or(c.Consumer.DrainTimeout, c.DrainTimeout)
	c.Jobs.StopTimeout = cmp.Or(c.Jobs.StopTimeout, c.DrainTimeout)
	c.Relay.Name = cmp.Or(c.Relay.Name, "relay")
	c.Logger = cmp.Or(c.Logger, slog.Default())
	c.Logger = slog.New(telemetry.NewHandler(c.Logger.Handler()))
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Consumer.Tracer == nil {
		c.Consumer.Tracer = telemetry.Tracer{}
	}
	if c.Consumer.Logger == nil {
		c.Consumer.Logger = telemetry.NewWatermillLogger(c.Logger)
	}
	if c.Jobs.Trace == nil {
		c.Jobs.Trace = newTrace
	}
	return c
}

// validate names what is wrong with the fields of this package; those of the parts
// are named by the parts.
func (c Config) validate() error {
	var errs []error
	if c.ListenDSN != "" {
		if _, err := pq.NewConfig(c.ListenDSN); err != nil { // err may show the password
			errs = append(errs, errors.New("ListenDSN: must be a Postgres address such as postgres://user@host:5432/db?sslmode=require, cannot be read"))
		}
	}
	if len(c.Kafka.Brokers) > 0 {
		errs = append(errs, fmt.Errorf("Kafka.Brokers: must be empty, as the brokers are an argument of New, is %q", c.Kafka.Brokers))
	}
	specs := make([]topics.Spec, 0, len(c.Topics))
	for _, t := range c.Topics {
		specs = append(specs, topics.Spec(t))
	}
	if err := topics.Validate(specs, record.DeadLetterSuffix); err != nil {
		errs = append(errs, err)
	}
	if c.Writer.Wake != nil {
		errs = append(errs, errors.New("Writer.Wake: must be nil, as the pipeline wakes its relay itself, is set"))
	}
	if c.DrainTimeout < 0 {
		errs = append(errs, fmt.Errorf("DrainTimeout: must be positive, is %s", c.DrainTimeout))
	}
	for name, check := range c.Checks {
		if check == nil {
			errs = append(errs, fmt.Errorf("Checks: must be a function each, %q is nil", name))
		}
	}
	return errors.Join(errs...)
}

// newTrace begins a trace for a run of a job.
func newTrace(ctx context.Context, _ string) (context.Context, string) {
	ctx = telemetry.StartSpan(ctx)
	t, _ := telemetry.TraceFrom(ctx)
	return ctx, t.ID()
}

// under puts the name of a field before each problem that the part which the field
// configures has found.
func under(field string, err error) error {
	if err == nil {
		return nil
	}
	all := problemsIn(err)
	if len(all) == 1 && all[0] == err { //nolint:errorlint // the very error, not one like it
		return fmt.Errorf("%s: %w", field, err)
	}
	var errs []error
	for _, problem := range all {
		errs = append(errs, fmt.Errorf("%s.%w", field, problem))
	}
	return errors.Join(errs...)
}

// problemsIn returns the problems that err lists, without the titles of the lists;
// an error that is not a list is one problem.
func problemsIn(err error) []error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		list, ok := inner.(interface{ Unwrap() []error }) // each step is examined
		if !ok || errors.Join(list.Unwrap()...).Error() != inner.Error() {
			continue
		}
		var all []error
		for _, problem := range list.Unwrap() {
			all = append(all, problemsIn(problem)...)
		}
		return all
	}
	return []error{err}
}

// titled names the package once before what is wrong: on the line of a single
// problem, above a list.
func titled(err error) error {
	if all := problemsIn(err); len(all) > 1 {
		return fmt.Errorf("pipeline:\n%w", errors.Join(all...))
	}
	return fmt.Errorf("pipeline: %w", err)
}
