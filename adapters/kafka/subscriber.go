package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/record"
)

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// Subscriber is a Watermill message.Subscriber over a Kafka consumer group.
//
//   - Records are handed over as they are: nothing is decoded, so nothing can
//     fail to be. Contexts carry the exact record, see record.From.
//   - A message's context ends when it is answered or its partition is lost. An
//     answer that comes later is ignored. It does not end because a stop
//     begins: handlers have DrainTimeout to finish.
//   - The committed offset never passes an unfinished message. It is committed
//     about each second, when a partition is given up and at the end.
//   - A nacked message is delivered again after a back-off; later messages of
//     its key wait for it.
//   - A stuck handler delays a rebalance by RevokeGrace at most.
//   - Failures of brokers and sessions are retried for ever and told to Hooks.
//
// The group is balanced by cooperative-sticky: of the strategies of Sarama
// 1.61.1 it is the one under which a member that joins or leaves takes nothing
// from the messages that are being handled on partitions that stay.
//
// A Subscriber may be used by many goroutines.
type Subscriber struct {
	group  string
	cfg    SubscriberConfig
	conf   Config
	paused pauses

	mu     sync.Mutex
	closed bool
	subs   map[*subscription]struct{}
}

// NewSubscriber returns a subscriber for a consumer group. Groups are independent
// of each other; the members of one group share the partitions of a topic. It does
// not connect. The error names every field that is wrong.
func NewSubscriber(group string, cfg Config, sub SubscriberConfig) (*Subscriber, error) {
	sub = sub.withDefaults()
	cfg.Tune = sub.tune(cfg.Tune)
	var noGroup error
	if group == "" {
		noGroup = errors.New("group: must not be empty")
	}
	if err := errors.Join(noGroup, cfg.Validate(), sub.validate()); err != nil {
		return nil, fmt.Errorf("kafka subscriber: %w", err)
	}
	return &Subscriber{group: group, cfg: sub, conf: cfg.withDefaults(), subs: make(map[*subscription]struct{})}, nil
}

// Subscribe joins the group for topic, as a member of its own, and delivers
// until ctx ends or the Subscriber is closed; then it drains and closes the
// channel. Topic need not exist yet, and brokers need not be up.
//
// At most Concurrency messages a partition are unanswered at a time, one a key.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	messages := make(chan *message.Message)
	if err := s.start(ctx, topic, messages, nil); err != nil {
		return nil, err
	}
	return messages, nil
}

func (s *Subscriber) start(ctx context.Context, topic string, messages chan *message.Message, batches chan *record.Batch) error {
	if topic == "" {
		return errors.New("subscribe: topic is empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("subscribe %s: %w", topic, ErrClosed)
	}
	sub := newSubscription(ctx, s, topic, messages, batches)
	s.subs[sub] = struct{}{}
	go func() {
		defer close(sub.done)
		sub.run()
		s.mu.Lock()
		delete(s.subs, sub)
		s.mu.Unlock()
	}()
	return nil
}

// Close stops fetching, waits up to DrainTimeout for the handlers of the
// messages that are out, commits and leaves the groups. Messages whose handlers
// did not finish are reported to Hooks.Abandoned. Closing again waits as well.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	subs := s.subscriptions()
	s.mu.Unlock()
	for _, sub := range subs {
		sub.cancel()
	}
	for _, sub := range subs {
		<-sub.done
	}
	return nil
}

// SubscribeInitialize creates topic as CreateTopics says, or does nothing if it
// says nothing.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	if s.cfg.CreateTopics == nil {
		return nil
	}
	admin, err := NewAdmin(s.conf)
	if err != nil {
		return err
	}
	spec := *s.cfg.CreateTopics
	spec.Name = topic
	ctx, cancel := context.WithTimeout(context.Background(), createWithin)
	defer cancel()
	return errors.Join(admin.EnsureTopics(ctx, spec), admin.Close())
}

const createWithin = 30 * time.Second

// subscriptions lists what is running. The caller holds mu.
func (s *Subscriber) subscriptions() []*subscription {
	subs := make([]*subscription, 0, len(s.subs))
	for sub := range s.subs {
		subs = append(subs, sub)
	}
	return subs
}

// tune lays the settings of a group member under the caller's own.
func (c SubscriberConfig) tune(own func(*sarama.Config)) func(*sarama.Config) {
	rebalance := max(c.DrainTimeout, c.RevokeGrace, 0) + 5*time.Second
	return func(sc *sarama.Config) {
		group := &sc.Consumer.Group
		group.Rebalance.GroupStrategies = c.Rebalance.strategies()
		group.Rebalance.Timeout = rebalance // a member that drains must not be thrown out
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
		// Retrying is the subscription's: Sarama's own retries cannot be stopped.
		sc.Metadata.Retry.Max = 3
		sc.Metadata.Retry.BackoffFunc = backOffLeft(100*time.Millisecond, 500*time.Millisecond)
		if own != nil {
			own(sc)
		}
	}
}

func backOffLeft(first, limit time.Duration) func(left, most int) time.Duration {
	delay := backOff(first, limit)
	return func(left, most int) time.Duration { return delay(most - left + 1) }
}

// strategies returns new strategies: cooperative-sticky has a state that is not
// to be shared.
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
