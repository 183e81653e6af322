package kafka

import (
	"cmp"
	"time"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// SubscriberConfig sets up a Subscriber. The zero value is usable.
type SubscriberConfig struct {
	// Concurrency is how many deliveries of one partition are outstanding at
	// once. 1 keeps the whole partition in order. With more, each key is in order:
	// a key has one delivery outstanding, and records without a key have no order.
	// A batch that its handler has released no longer counts. Default 1.
	Concurrency int
	// MaxAhead bounds how far beyond its oldest unfinished record a partition is
	// delivered, and so how many messages are delivered again after a crash.
	// Default 4096.
	MaxAhead int
	// Buffer is how many records of a partition may wait in memory before
	// fetching pauses. A fetch that has been sent may add to it. Default 512.
	Buffer int
	// MaxBatch bounds the messages of one delivery of SubscribeBatches.
	// Default 500.
	MaxBatch int
	// NackBackOff is the pause before a nacked message is delivered again. It
	// doubles with each nack up to NackBackOffMax. Default 100 ms.
	NackBackOff time.Duration
	// NackBackOffMax is the longest such pause. Default 5 s.
	NackBackOffMax time.Duration
	// DrainTimeout is how long a stop waits for handlers before it ends the
	// contexts of their messages; -1 ends them at once. Default 10 s.
	DrainTimeout time.Duration
	// RevokeGrace is how long handlers may continue with a partition that moves to
	// another member, before the contexts of their messages end; -1 ends them at
	// once. A longer one avoids duplicates in a rebalance, and lets a stuck handler
	// delay the rebalance for longer. Default 500 ms.
	RevokeGrace time.Duration
	// StuckAfter is how long a delivery may be outstanding before Hooks.Stuck is
	// called, and again each time as long; -1 is off. Default 1 min.
	StuckAfter time.Duration
	// Rebalance selects how partitions are shared. Default Cooperative.
	Rebalance Rebalance
	// CreateTopics, if not nil, lets SubscribeInitialize create missing topics like
	// it; its name does not matter. It is meant for tests and local work: in
	// production topics are created on purpose. Default: none.
	CreateTopics *Topic
}

// Rebalance is a way of sharing partitions between the members of a group.
type Rebalance int

const (
	// Cooperative moves only the partitions that get another owner; the others are
	// consumed throughout (cooperative-sticky, KIP-429).
	Cooperative Rebalance = iota
	// Upgrading offers cooperative-sticky and range, and works as Eager. Deploy it
	// out first to move a running group from range to Cooperative.
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

// validate adds every field that is out of range, after defaults, to l.
func (c SubscriberConfig) validate(l *problems.List) {
	problems.AtLeast(l, "Concurrency", c.Concurrency, 1)
	l.Unless(c.MaxAhead >= max(c.Concurrency, 1), "MaxAhead", "must be at least Concurrency (%d), is %d", c.Concurrency, c.MaxAhead)
	problems.AtLeast(l, "Buffer", c.Buffer, 1)
	problems.AtLeast(l, "MaxBatch", c.MaxBatch, 1)
	problems.Positive(l, "NackBackOff", c.NackBackOff)
	l.Unless(c.NackBackOffMax >= c.NackBackOff, "NackBackOffMax", "must be at least NackBackOff (%s), is %s", c.NackBackOff, c.NackBackOffMax)
	l.Unless(c.Rebalance >= Cooperative && c.Rebalance <= Eager, "Rebalance", "must be Cooperative, Upgrading or Eager, is %d", c.Rebalance)
}

// tune returns a Config.Tune that makes the settings of a group member and then
// applies own.
func (c SubscriberConfig) tune(own func(*sarama.Config)) func(*sarama.Config) {
	rebalance := max(c.DrainTimeout, c.RevokeGrace, 0) + 5*time.Second
	return func(sc *sarama.Config) {
		group := &sc.Consumer.Group
		group.Rebalance.GroupStrategies = c.Rebalance.strategies()
		group.Rebalance.Timeout = rebalance // a member that drains must not be expelled
		group.Heartbeat.Interval = 400 * time.Millisecond
		group.Session.Timeout = 10 * time.Second
		// An answer to JoinGroup may take as long as the slowest member.
		sc.Net.ReadTimeout = max(sc.Net.ReadTimeout, rebalance+5*time.Second)
		// Heartbeats and commits wait behind a fetch on the same connection.
		sc.Consumer.MaxWaitTime = 100 * time.Millisecond
		sc.Consumer.Offsets.AutoCommit.Enable = true
		sc.Consumer.Offsets.AutoCommit.Interval = time.Second
		sc.Consumer.Return.Errors = true
		// The leader looks for new partitions this often.
		sc.Metadata.RefreshFrequency = 10 * time.Second
		// The subscription retries: Sarama's own retries cannot be stopped.
		sc.Metadata.Retry.Max = 3
		sc.Metadata.Retry.BackoffFunc = backOffLeft(backoff.Doubling{First: 100 * time.Millisecond, Max: 500 * time.Millisecond})
		if own != nil {
			own(sc)
		}
	}
}

// backOffLeft is d as Sarama counts retries: those that are left, of limit.
func backOffLeft(d backoff.Doubling) func(left, limit int) time.Duration {
	return func(left, limit int) time.Duration { return d.After(limit - left + 1) }
}

// strategies returns new strategies each time: cooperative-sticky has state that
// must not be shared.
func (r Rebalance) strategies() []sarama.BalanceStrategy {
	switch r {
	case Upgrading:
		return []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky(), sarama.NewBalanceStrategyRange()}
	case Eager:
		return []sarama.BalanceStrategy{sarama.NewBalanceStrategySticky()}
	default:
		return []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	}
}
