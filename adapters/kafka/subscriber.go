package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/internal/problems"
	"github.com/millrace-go/millrace/outbox/record"
)

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// Subscriber is a Watermill message.Subscriber over a Kafka consumer group.
//
//   - Records are handed over as they are, undecoded. A message's context carries
//     the exact record, see record.From.
//   - A message's context ends when it is answered or its partition is lost. A
//     later answer is ignored. It does not end when a stop begins: handlers have
//     DrainTimeout to finish.
//   - The committed offset never passes an unfinished message. It is committed
//     about once a second, when a partition moves away and at the end.
//   - A nacked message is delivered again after a back-off; later messages of
//     its key wait for it.
//   - A stuck handler delays a rebalance by at most RevokeGrace.
//   - Failures of brokers and sessions are retried forever and reported to
//     Config.Hooks.
//
// The group is balanced by cooperative-sticky. Of the strategies of Sarama 1.61.1 it
// is the only one that does not disturb the handlers of the partitions that stay
// when a member joins or leaves.
//
// It is safe for concurrent use.
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
	var p problems.List
	p.Unless(group != "", "group", "must not be empty")
	sub.validate(&p)
	if err := errors.Join(p.Err(), cfg.Validate()); err != nil {
		return nil, fmt.Errorf("kafka subscriber: %w", err)
	}
	return &Subscriber{group: group, cfg: sub, conf: cfg.withDefaults(), subs: make(map[*subscription]struct{})}, nil
}

// Subscribe joins the group for topic, as a member of its own, and delivers
// until ctx ends or the Subscriber is closed; then it drains and closes the
// channel. The topic need not exist yet, and the brokers need not be up.
//
// At most Concurrency messages of a partition are unanswered at a time, and one of
// a key.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	messages := make(chan *message.Message)
	if err := s.start(ctx, topic, messages, nil); err != nil {
		return nil, err
	}
	return messages, nil
}

// SubscribeBatches is Subscribe for handlers that work on many messages at once. A
// batch has the messages that are there, at most MaxBatch; it never waits for more.
// The batch's context is the parent of its messages' contexts.
func (s *Subscriber) SubscribeBatches(ctx context.Context, topic string) (<-chan *record.Batch, error) {
	batches := make(chan *record.Batch)
	if err := s.start(ctx, topic, nil, batches); err != nil {
		return nil, err
	}
	return batches, nil
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
// messages in flight, commits and leaves the groups. Messages whose handlers did not
// finish are reported to Hooks.Abandoned. A second call waits, too.
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

// SubscribeInitialize creates topic like SubscriberConfig.CreateTopics; it does
// nothing if that is nil.
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

// subscriptions returns the running subscriptions. Requires s.mu.
func (s *Subscriber) subscriptions() []*subscription {
	subs := make([]*subscription, 0, len(s.subs))
	for sub := range s.subs {
		subs = append(subs, sub)
	}
	return subs
}
