package service

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/adapters/telemetry/cachemetrics"
	"github.com/millrace-go/millrace/adapters/telemetry/consumermetrics"
	"github.com/millrace-go/millrace/adapters/telemetry/jobmetrics"
	"github.com/millrace-go/millrace/outbox"
)

// metrics are those of every part, in one registry.
type metrics struct {
	registry  *prometheus.Registry
	relay     *telemetry.RelayMetrics
	consumers *consumermetrics.Metrics
	cache     *cachemetrics.Metrics
	jobs      *jobmetrics.Metrics
}

func (s *service) buildMetrics() (err error) {
	m := &s.metrics
	m.registry = prometheus.NewRegistry()
	if m.relay, err = telemetry.NewRelayMetrics(m.registry, s.cfg.Relay); err != nil {
		return err
	}
	if m.consumers, err = consumermetrics.New(m.registry); err != nil {
		return err
	}
	if m.cache, err = cachemetrics.New(m.registry); err != nil {
		return err
	}
	if m.jobs, err = jobmetrics.New(m.registry); err != nil {
		return err
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewDBStatsCollector(s.db, "postgres"),
	} {
		if err := m.registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// watch keeps what is asked for, rather than told, up to date until ctx ends.
func (s *service) watch(ctx context.Context) error {
	s.metrics.relay.Follow(s.relay.Status)
	s.metrics.relay.WatchLag(ctx, func(ctx context.Context) (outbox.Lag, error) { return s.store.LagOf(ctx, s.cfg.Relay) }, 0)
	return nil
}

func (s *service) relayHooks() outbox.Hooks {
	return s.metrics.relay.Hooks(outbox.Hooks{
		Leading: func(epoch int64) { s.log.Info("relay leads", "relay", s.cfg.Relay, "epoch", epoch) },
		Stopped: func(epoch int64, err error) {
			if err != nil {
				s.log.Warn("relay lost the lead", "relay", s.cfg.Relay, "epoch", epoch, "error", err)
			}
		},
		Parked: func(p outbox.Parked) {
			s.log.Warn("message parked", "position", p.Position, "topic", p.Topic, "reason", p.Reason)
		},
		Retrying: func(err error, in time.Duration) {
			s.log.Warn("relay tries again", "postgres", s.cfg.postgresAddr(), "kafka", s.cfg.kafkaAddr(), "error", err, "in", in.String())
		},
	})
}

func (s *service) consumerHooks() consumer.Hooks {
	counting := s.metrics.consumers.Hooks()
	return consumer.Hooks{
		Delivered: func(d consumer.Delivery) {
			counting.Delivered(d)
			if d.Outcome == consumer.OutcomeDeadLettered {
				s.log.WarnContext(of(d), "message became a dead letter", "handler", d.Handler, "topic", d.Topic, "partition", d.Partition,
					"offset", d.Offset, "message", d.MessageID, "disposition", d.Disposition, "error", d.Err)
			}
		},
		Retrying: func(r consumer.RetryInfo) {
			d := r.Delivery
			counting.Retrying(r)
			s.log.WarnContext(of(d), "handler tries again", "handler", d.Handler, "message", d.MessageID, "attempts", d.Attempts, "error", r.Err, "in", r.Wait.String())
		},
		DeadLetterFailed: func(r consumer.RetryInfo) {
			d := r.Delivery
			counting.DeadLetterFailed(r)
			s.log.WarnContext(of(d), "dead letter could not be published", "handler", d.Handler, "message", d.MessageID, "error", r.Err, "again_in", r.Wait.String())
		},
		Paused: func(b consumer.BreakerStatus) {
			counting.Paused(b)
			s.log.Warn("partition paused: a dependency fails", "handler", b.Handler, "topic", b.Topic, "partition", b.Partition, "error", b.Err)
		},
		Resumed: func(b consumer.BreakerStatus) {
			counting.Resumed(b)
			s.log.Info("partition resumed", "handler", b.Handler, "topic", b.Topic, "partition", b.Partition)
		},
	}
}

// of is a context for lines about a delivery: it has the trace of the message.
func of(d consumer.Delivery) context.Context {
	t, _ := telemetry.ParseTraceparent(d.Traceparent)
	return telemetry.ContextWithTrace(context.Background(), t)
}

func (s *service) inboxHooks(group string) inbox.Hooks {
	return inbox.Hooks{
		Committed: s.metrics.consumers.InboxHooks().Committed,
		Pruned: func(rows int, err error) {
			if err != nil {
				s.log.Warn("inbox not pruned", "group", group, "rows", rows, "error", err)
			}
		},
	}
}

func (s *service) cacheHooks() cache.Hooks {
	return cache.LogHooks(s.log).Tee(s.metrics.cache.Hooks())
}

// lockHooks are those of the locker: of each run under a lock.
func (s *service) lockHooks() lock.Hooks {
	return s.metrics.jobs.Hooks().Tee(lock.LogHooks(s.log))
}
