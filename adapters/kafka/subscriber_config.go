package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// SubscriberConfig sets up a Subscriber. The zero value is usable.
type SubscriberConfig struct {
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

func (c SubscriberConfig) withDefaults() SubscriberConfig {
	c.Concurrency = cmp.Or(c.Concurrency, 1)
	c.MaxAhead = cmp.Or(c.MaxAhead, 4096)
	c.Buffer = cmp.Or(c.Buffer, 512)
	c.MaxBatch = cmp.Or(c.MaxBatch, 500)
	c.NackBackOff = cmp.Or(c.NackBackOff, 100*time.Millisecond)
	c.NackBackOffMax = cmp.Or(c.NackBackOffMax, 5*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.RevokeGrace = cmp.Or(c.RevokeGrace, 500*time.Millisecond)
	c.StuckAfter = cmp.Or(c.StuckAfter, time.Minute)
	return c
}

// validate returns every field that is out of range, after defaults.
func (c SubscriberConfig) validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(c.Concurrency >= 1, "Concurrency: must be at least 1, is %d", c.Concurrency)
	need(c.MaxAhead >= max(c.Concurrency, 1), "MaxAhead: must be at least Concurrency (%d), is %d", c.Concurrency, c.MaxAhead)
	need(c.Buffer >= 1, "Buffer: must be at least 1, is %d", c.Buffer)
	need(c.MaxBatch >= 1, "MaxBatch: must be at least 1, is %d", c.MaxBatch)
	need(c.NackBackOff >= 0, "NackBackOff: must be positive, is %s", c.NackBackOff)
	need(c.NackBackOffMax >= c.NackBackOff, "NackBackOffMax: must be at least NackBackOff (%s), is %s", c.NackBackOff, c.NackBackOffMax)
	need(c.Rebalance >= Cooperative && c.Rebalance <= Eager, "Rebalance: must be Cooperative, Upgrading or Eager, is %d", c.Rebalance)
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
