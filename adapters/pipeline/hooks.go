package pipeline

import (
	"context"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/internal/hook"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
)

// The hooks of each part log first, then count, and then call those of the
// service's own config.

// kafkaHooks are those of the publishers, or of the subscriber of a group.
func (p *Pipeline) kafkaHooks(group string) kafka.Hooks {
	hooks := kafka.LogHooks(p.cfg.Logger)
	if group == "" {
		return hooks
	}
	return hooks.Tee(kafka.Hooks{
		Assigned: func(c kafka.Claim) { p.state.loses(group+" "+c.Topic, nil) },
		Error:    func(topic string, err error) { p.state.loses(group+" "+topic, err) },
	})
}

func (p *Pipeline) relayHooks() outbox.Hooks {
	logged := outbox.LogHooks(p.cfg.Logger.With("relay", p.cfg.Relay.Name))
	return p.count.relay.Hooks(logged.Tee(p.cfg.Relay.Hooks))
}

func (p *Pipeline) consumerHooks() consumer.Hooks {
	log, counting, own := p.cfg.Logger, p.count.consumers.Hooks(), p.cfg.Consumer.Hooks
	hooks := own
	hooks.Delivered = hook.Tee1(func(d consumer.Delivery) {
		counting.Delivered(d)
		if d.Outcome == consumer.OutcomeDeadLettered {
			log.WarnContext(traced(d), "message became a dead letter", "group", d.Group, "topic", d.Topic, "partition", d.Partition,
				"offset", d.Offset, "message", d.MessageID, "disposition", d.Disposition, "error", d.Err)
		}
	}, own.Delivered)
	hooks.Retrying = hook.Tee1(func(r consumer.RetryInfo) {
		d := r.Delivery
		counting.Retrying(r)
		log.WarnContext(traced(d), "handler tries again", "group", d.Group, "topic", d.Topic, "message", d.MessageID,
			"attempts", d.Attempts, "error", r.Err, "in", r.Wait.String())
	}, own.Retrying)
	hooks.DeadLetterFailed = hook.Tee1(func(r consumer.RetryInfo) {
		d := r.Delivery
		counting.DeadLetterFailed(r)
		log.WarnContext(traced(d), "dead letter could not be published", "group", d.Group, "topic", d.Topic, "message", d.MessageID,
			"error", r.Err, "again_in", r.Wait.String())
	}, own.DeadLetterFailed)
	return hooks
}

// traced is a context for lines about a delivery: it has the trace of the message.
func traced(d consumer.Delivery) context.Context {
	t, _ := telemetry.ParseTraceparent(d.Traceparent)
	return telemetry.ContextWithTrace(context.Background(), t)
}

// breakerHooks log and count what the breaker of a group pauses.
func (p *Pipeline) breakerHooks() consumer.Hooks {
	log, counting := p.cfg.Logger, p.count.consumers.Hooks()
	return consumer.Hooks{
		Paused: func(b consumer.BreakerStatus) {
			counting.Paused(b)
			log.Warn("group is paused", "group", b.Group, "topic", b.Topic, "partition", b.Partition, "error", b.Err)
		},
		Resumed: func(b consumer.BreakerStatus) {
			counting.Resumed(b)
			log.Info("group goes on", "group", b.Group, "topic", b.Topic, "partition", b.Partition)
		},
	}
}

func (p *Pipeline) inboxHooks(group string, own inbox.Hooks) inbox.Hooks {
	return inbox.Hooks{
		Committed: hook.Tee1(p.count.consumers.InboxHooks().Committed, own.Committed),
		Pruned: hook.Tee2(func(rows int, err error) {
			if err != nil {
				p.cfg.Logger.Warn("inbox not pruned", "group", group, "rows", rows, "error", err)
			}
		}, own.Pruned),
	}
}

// lockHooks are those of the locker, which knows of each run under a lock.
func (p *Pipeline) lockHooks() lock.Hooks {
	return lock.LogHooks(p.cfg.Logger).Tee(p.count.jobs.Hooks()).Tee(p.cfg.JobLocks.Hooks)
}

// jobHooks are those of the scheduler, which knows of slots.
func (p *Pipeline) jobHooks() schedule.Hooks {
	return schedule.LogHooks(p.cfg.Logger).Tee(p.cfg.Jobs.Hooks)
}

func (p *Pipeline) cacheHooks() cache.Hooks {
	return cache.LogHooks(p.cfg.Logger).Tee(p.count.cache.Hooks()).Tee(p.cfg.Cache.Hooks)
}
