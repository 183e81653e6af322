package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/outbox/record"
)

const (
	steady      = time.Second     // a session this long counts as a success
	leaveWithin = 5 * time.Second // for commit and leave after the drain
)

// rejoin is the pause before joining the group again.
var rejoin = backoff.Doubling{First: 50 * time.Millisecond, Max: 5 * time.Second}

// subscription is one topic consumed as one member of the group.
type subscription struct {
	groupID  string
	cfg      SubscriberConfig
	conf     Config
	topic    string
	maxBatch int

	messages chan *message.Message // one of the two is nil
	batches  chan *record.Batch

	handlerCtx context.Context //nolint:containedctx // values of the Subscribe context, never ends
	ctx        context.Context //nolint:containedctx // ends when fetching is to stop
	cancel     context.CancelFunc
	done       chan struct{}

	group sarama.ConsumerGroup // of the present session

	mu     sync.Mutex
	claims map[int32]*claim
	paused *pauses
}

func newSubscription(ctx context.Context, s *Subscriber, topic string, messages chan *message.Message, batches chan *record.Batch) *subscription {
	sub := &subscription{
		groupID: s.group, cfg: s.cfg, conf: s.conf, topic: topic, maxBatch: 1,
		messages: messages, batches: batches,
		handlerCtx: context.WithoutCancel(ctx), done: make(chan struct{}),
		claims: make(map[int32]*claim), paused: &s.paused,
	}
	if batches != nil {
		sub.maxBatch = s.cfg.MaxBatch
	}
	sub.ctx, sub.cancel = context.WithCancel(ctx)
	return sub
}

// run keeps a member in the group until ctx ends.
func (s *subscription) run() {
	defer s.cancel()
	for attempt := 1; s.ctx.Err() == nil; attempt++ {
		began := time.Now()
		if err := s.member(); err != nil {
			s.report(err)
		}
		if time.Since(began) > rejoin.Max {
			attempt = 1
		}
		_ = backoff.Sleep(s.ctx, rejoin.After(attempt)) // the loop asks ctx
	}
	if s.messages != nil {
		close(s.messages)
	} else {
		close(s.batches)
	}
}

// member connects, joins the group and consumes one session after the other.
func (s *subscription) member() error {
	sc, err := s.conf.saramaConfig()
	if err != nil {
		return err
	}
	client, err := sarama.NewClient(s.conf.Brokers, sc)
	if err != nil {
		return err
	}
	defer s.closeInTime(client)()
	group, err := sarama.NewConsumerGroupFromClient(s.groupID, client)
	if err != nil {
		return err
	}
	s.group = group
	var reporter sync.WaitGroup
	reporter.Go(func() {
		for err := range group.Errors() {
			s.report(err)
		}
	})
	err = errors.Join(s.sessions(group), group.Close())
	reporter.Wait()
	return err
}

// sessions consumes until ctx ends or the client is closed. A session that ends by an
// eager rebalance or a failure is followed by the next one of the same member: a new
// member would have to wait until the group has given up the old one.
func (s *subscription) sessions(group sarama.ConsumerGroup) error {
	for attempt := 1; s.ctx.Err() == nil; attempt++ {
		began := time.Now()
		err := group.Consume(s.ctx, []string{s.topic}, handler{s})
		if errors.Is(err, sarama.ErrClosedClient) || errors.Is(err, sarama.ErrClosedConsumerGroup) {
			return err
		}
		if err != nil && s.ctx.Err() == nil {
			s.report(err)
		}
		if time.Since(began) > steady {
			attempt = 1
		}
		if err != nil || attempt > 1 {
			_ = backoff.Sleep(s.ctx, rejoin.After(attempt)) // the loop asks ctx
		}
	}
	return nil
}

// closeInTime returns the function that closes client at the end. If the
// subscription is stopped while no broker answers, the client is closed early: its
// requests would delay the stop.
func (s *subscription) closeInTime(client sarama.Client) func() {
	var watcher sync.WaitGroup
	over := make(chan struct{})
	watcher.Go(func() {
		select {
		case <-s.ctx.Done():
		case <-over:
			return
		}
		select {
		case <-time.After(max(s.cfg.DrainTimeout, 0) + leaveWithin):
			_ = client.Close()
		case <-over:
		}
	})
	return func() {
		close(over)
		watcher.Wait()
		_ = client.Close() // closed already if it was too late
	}
}

// report tells Hooks.Error of a failure that is retried.
func (s *subscription) report(err error) {
	s.conf.Hooks.Error(s.topic, fmt.Errorf("group %s: %w", s.groupID, err))
}

// handler is the sarama.ConsumerGroupHandler of a subscription.
type handler struct{ sub *subscription }

func (handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim consumes one partition until it moves away. It never returns an
// error, because that would end the session of every partition.
func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, sc sarama.ConsumerGroupClaim) error {
	c := newClaim(h.sub, session, sc)
	h.sub.enter(c)
	h.sub.conf.Hooks.Assigned(c.at(sc.InitialOffset()))
	c.run(sc.Messages())
	h.sub.leave(c)
	h.sub.conf.Hooks.Revoked(c.at(c.window.lowWater))
	return nil
}

func (s *subscription) enter(c *claim) {
	s.mu.Lock()
	s.claims[c.partition] = c
	s.mu.Unlock()
	c.paused = s.paused.has(c.topic, c.partition) // a Pause from here on finds the claim
}

func (s *subscription) leave(c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims[c.partition] == c {
		delete(s.claims, c.partition)
	}
}
