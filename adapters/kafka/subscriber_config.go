package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/outbox/record"
)

// SubscriberConfig sets up a Subscriber. Only Group is required.
type SubscriberConfig struct {
	// Group is the consumer group. Groups are independent of each other; the
	// members of one group share the partitions of a topic.
	Group string
	// Concurrency is how many deliveries of one partition are outstanding at
	// once. 1 keeps the whole partition in order. More keep each key in order:
	// a key has one delivery outstanding, records without a key have no order.
	// A batch of which its handler has settled a part counts no more. The
	// default is 1.
	Concurrency int
	// MaxAhead bounds how many records of a partition may be handed out beyond
	// its oldest unfinished one, and so how many are delivered again after a
	// crash. The default is 4096.
	MaxAhead int
	// Buffer is how many records of a partition may wait in memory before
	// fetching pauses. A fetch that is under way may add to it. The default
	// is 512.
	Buffer int
	// MaxBatch bounds the records of one delivery of SubscribeBatches. The
	// default is 500.
	MaxBatch int
	// NackBackOff is the pause before a refused message is delivered again; it
	// doubles with each refusal up to NackBackOffMax. The defaults are 100 ms
	// and 5 s.
	NackBackOff, NackBackOffMax time.Duration
	// DrainTimeout is how long a stop waits for handlers before it ends the
	// contexts of their messages. The default is 10 s, -1 ends them at once.
	DrainTimeout time.Duration
	// RevokeGrace is how long handlers may go on with a partition that moves
	// to another member, before the contexts of their messages end. It spares
	// duplicates in a rebalance and adds to the time a stuck handler delays
	// one. The default is 500 ms, -1 ends them at once.
	RevokeGrace time.Duration
	// StuckAfter is how long a delivery may be outstanding before Hooks.Stuck
	// is called, and again each time as long. The default is 1 min, -1 is off.
	StuckAfter time.Duration
	// Rebalance chooses how partitions are shared. The default is Cooperative.
	Rebalance Rebalance
	// CreateTopics, if not nil, lets SubscribeInitialize create missing topics
	// like it, whatever its name. It is meant for tests and local work; in
	// production topics are made on purpose. The default is nil.
	CreateTopics *Topic
	// Hooks are told of what happens. Nil hooks are not called.
	Hooks SubscriberHooks
}

// Rebalance is a way of sharing partitions between the members of a group.
type Rebalance int

const (
	// Cooperative moves only the partitions that change hands; the others are
	// worked on throughout (cooperative-sticky, KIP-429).
	Cooperative Rebalance = iota
	// Upgrading speaks cooperative-sticky and range, and works as Eager. Roll
	// it out first to move a living group from range to Cooperative.
	Upgrading
	// Eager stops every member for each rebalance (sticky).
	Eager
)

// SubscriberHooks are called by the goroutines that consume: they must return
// quickly and must not call the Subscriber. Any of them may be nil.
type SubscriberHooks struct {
	// Assigned tells that a partition is consumed from offset on. The offset
	// is negative if the group had none there and starts at the oldest record.
	Assigned func(topic string, partition int32, offset int64)
	// Revoked tells that a partition is no longer consumed. next is the offset
	// its next owner starts at if the last commit succeeds, -1 if this member
	// has received nothing.
	Revoked func(topic string, partition int32, next int64)
	// Nacked tells of a refused delivery and when it is made again.
	Nacked func(rec *record.Record, attempt int, again time.Duration)
	// Abandoned tells of a message whose claim ended before its handler
	// answered. It is delivered again by the next owner of the partition.
	Abandoned func(rec *record.Record)
	// Stuck tells of a message whose handler has not answered for so long.
	Stuck func(rec *record.Record, since time.Duration)
	// Error tells of a failure that the Subscriber recovers from by itself:
	// broker unreachable, session lost, commit refused.
	Error func(topic string, err error)
}

func (c SubscriberConfig) withDefaults() SubscriberConfig {
	c.Concurrency = orDefault(c.Concurrency, 1)
	c.MaxAhead = orDefault(c.MaxAhead, 4096)
	c.Buffer = orDefault(c.Buffer, 512)
	c.MaxBatch = orDefault(c.MaxBatch, 500)
	c.NackBackOff = orDefault(c.NackBackOff, 100*time.Millisecond)
	c.NackBackOffMax = orDefault(c.NackBackOffMax, 5*time.Second)
	c.DrainTimeout = orDefault(c.DrainTimeout, 10*time.Second)
	c.RevokeGrace = orDefault(c.RevokeGrace, 500*time.Millisecond)
	c.StuckAfter = orDefault(c.StuckAfter, time.Minute)
	c.Hooks = c.Hooks.withDefaults()
	return c
}

func (h SubscriberHooks) withDefaults() SubscriberHooks {
	if h.Assigned == nil {
		h.Assigned = func(string, int32, int64) {}
	}
	if h.Revoked == nil {
		h.Revoked = func(string, int32, int64) {}
	}
	if h.Nacked == nil {
		h.Nacked = func(*record.Record, int, time.Duration) {}
	}
	if h.Abandoned == nil {
		h.Abandoned = func(*record.Record) {}
	}
	if h.Stuck == nil {
		h.Stuck = func(*record.Record, time.Duration) {}
	}
	if h.Error == nil {
		h.Error = func(string, error) {}
	}
	return h
}

// validate reports every field that is out of range, after defaults.
func (c SubscriberConfig) validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(c.Group == "", "Group must be set")
	refuse(c.Concurrency < 1, "Concurrency must be at least 1, not %d", c.Concurrency)
	refuse(c.MaxAhead < max(c.Concurrency, 1), "MaxAhead must be at least Concurrency (%d), not %d", c.Concurrency, c.MaxAhead)
	refuse(c.Buffer < 1, "Buffer must be at least 1, not %d", c.Buffer)
	refuse(c.MaxBatch < 1, "MaxBatch must be at least 1, not %d", c.MaxBatch)
	refuse(c.NackBackOff < 0, "NackBackOff must be positive, not %s", c.NackBackOff)
	refuse(c.NackBackOffMax < c.NackBackOff, "NackBackOffMax must be at least NackBackOff (%s), not %s", c.NackBackOff, c.NackBackOffMax)
	refuse(c.Rebalance < Cooperative || c.Rebalance > Eager, "Rebalance must be Cooperative, Upgrading or Eager, not %d", c.Rebalance)
	return errors.Join(errs...)
}

// backOff doubles first with every attempt up to limit.
func backOff(first, limit time.Duration) func(attempt int) time.Duration {
	return func(attempt int) time.Duration {
		d := first
		for range attempt - 1 {
			if d >= limit {
				break
			}
			d *= 2
		}
		return min(d, limit)
	}
}
