package kafka

import (
	"log/slog"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/hook"
	"github.com/millrace-go/millrace/outbox/record"
)

// Hooks are called when something happens that an operator may want to see. The
// zero value listens to nothing. Hooks are called by the goroutines that publish
// and consume: they must return quickly and must not call the Publisher or the
// Subscriber.
type Hooks struct {
	// State is called when a Publisher loses contact with the brokers, and when
	// the first acknowledgement after that arrives.
	State func(State)
	// Assigned is called when a Subscriber starts to consume a partition, at
	// Claim.Next. Next is negative if the group had no offset there and starts at
	// the oldest record.
	Assigned func(Claim)
	// Revoked is called when a Subscriber no longer consumes a partition. The next
	// owner starts at Claim.Next if the last commit succeeds; Next is -1 if this
	// member has received nothing.
	Revoked func(Claim)
	// Nacked is called when a handler has refused a message.
	Nacked func(Nack)
	// Abandoned is called for a message whose partition moved away, or whose
	// Subscriber stopped, before its handler answered. The next owner of the
	// partition delivers it again.
	Abandoned func(rec *record.Record)
	// Stuck is called for a message whose handler has not answered for longer than
	// SubscriberConfig.StuckAfter.
	Stuck func(rec *record.Record, since time.Duration)
	// Error is called for a failure that a Subscriber recovers from by itself: the
	// broker cannot be reached, the group's session is lost, a commit is refused.
	// The error names the group.
	Error func(topic string, err error)
}

// Nack is a refused delivery.
type Nack struct {
	Record  *record.Record
	Attempt int           // deliveries so far, this one included
	Again   time.Duration // until it is delivered again
}

// withDefaults fills the hooks that are nil, so that callers need not ask.
func (h Hooks) withDefaults() Hooks {
	hook.Fill1(&h.State)
	hook.Fill1(&h.Assigned)
	hook.Fill1(&h.Revoked)
	hook.Fill1(&h.Nacked)
	hook.Fill1(&h.Abandoned)
	hook.Fill2(&h.Stuck)
	hook.Fill2(&h.Error)
	return h
}

// Tee returns hooks that call h and then other.
func (h Hooks) Tee(other Hooks) Hooks {
	return Hooks{
		State:     hook.Tee1(h.State, other.State),
		Assigned:  hook.Tee1(h.Assigned, other.Assigned),
		Revoked:   hook.Tee1(h.Revoked, other.Revoked),
		Nacked:    hook.Tee1(h.Nacked, other.Nacked),
		Abandoned: hook.Tee1(h.Abandoned, other.Abandoned),
		Stuck:     hook.Tee2(h.Stuck, other.Stuck),
		Error:     hook.Tee2(h.Error, other.Error),
	}
}

// LogHooks returns hooks that log what happens: lost contact, stuck and abandoned
// messages and failures as warnings, contact regained and partitions that come and
// go as information, refused messages for debugging.
func LogHooks(log *slog.Logger) Hooks {
	return Hooks{
		State: func(s State) {
			if s.Reachable {
				log.Info("kafka can be reached again")
			} else {
				log.Warn("kafka cannot be reached", "error", s.Err)
			}
		},
		Assigned: func(c Claim) { log.Info("partition assigned", claimAttrs(c)...) },
		Revoked:  func(c Claim) { log.Info("partition revoked", claimAttrs(c)...) },
		Nacked: func(n Nack) {
			log.Debug("message refused", append(recordAttrs(n.Record), slog.Int("attempt", n.Attempt), slog.Duration("again_in", n.Again))...)
		},
		Abandoned: func(r *record.Record) {
			log.Warn("message abandoned: its handler did not answer in time", recordAttrs(r)...)
		},
		Stuck: func(r *record.Record, since time.Duration) {
			log.Warn("handler is stuck", append(recordAttrs(r), slog.Duration("since", since))...)
		},
		Error: func(topic string, err error) { log.Warn("subscriber tries again", "topic", topic, "error", err) },
	}
}

func claimAttrs(c Claim) []any {
	return []any{slog.String("group", c.Group), slog.String("topic", c.Topic), slog.Int("partition", int(c.Partition)), slog.Int64("offset", c.Next)}
}

func recordAttrs(r *record.Record) []any {
	return []any{
		slog.String("group", r.Group), slog.String("topic", r.Topic),
		slog.Int("partition", int(r.Partition)), slog.Int64("offset", r.Offset),
	}
}
