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

const (
	rejoinFirst = 50 * time.Millisecond // wait before joining again, doubling
	rejoinMax   = 5 * time.Second
	steady      = time.Second     // a session this long was a success
	leaveWithin = 5 * time.Second // for commit and leave after the drain
)

// subscription is one topic consumed as one member of the group.
type subscription struct {
	groupID  string
	cfg      SubscriberConfig
	conf     Config
	topic    string
	maxBatch int

	messages chan *message.Message // one of the two is nil
	batches  chan *record.Batch

	base   context.Context // values of the Subscribe context, never ends
	stop   context.Context // ends when fetching is to stop
	cancel context.CancelFunc
	done   chan struct{}

	group sarama.ConsumerGroup // of the session that runs

	mu     sync.Mutex
	claims map[int32]*claim
	paused *pauses
}

func newSubscription(ctx context.Context, s *Subscriber, topic string, messages chan *message.Message, batches chan *record.Batch) *subscription {
	sub := &subscription{
		groupID: s.group, cfg: s.cfg, conf: s.conf, topic: topic, maxBatch: 1,
		messages: messages, batches: batches,
		base: context.WithoutCancel(ctx), done: make(chan struct{}),
		claims: make(map[int32]*claim), paused: &s.paused,
	}
	if batches != nil {
		sub.maxBatch = s.cfg.MaxBatch
	}
	sub.stop, sub.cancel = context.WithCancel(ctx)
	return sub
}

// run keeps a member in the group until the subscription is stopped.
func (s *subscription) run() {
	defer s.cancel()
	delay := backOff(rejoinFirst, rejoinMax)
	for attempt := 1; s.stop.Err() == nil; attempt++ {
		began := time.Now()
		if err := s.member(); err != nil {
			s.report(err)
		}
		if time.Since(began) > rejoinMax {
			attempt = 1
		}
		s.wait(delay(attempt))
	}
	if s.messages != nil {
		close(s.messages)
	} else {
		close(s.batches)
	}
}

// member connects, joins the group and consumes session after session.
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

// sessions consumes until the subscription is stopped or the client is closed.
// A session that ends, by an eager rebalance or a failure, is followed by the
// next one of the same member: a new member would wait until the group has given
// up the old one.
func (s *subscription) sessions(group sarama.ConsumerGroup) error {
	delay := backOff(rejoinFirst, rejoinMax)
	for attempt := 1; s.stop.Err() == nil; attempt++ {
		began := time.Now()
		err := group.Consume(s.stop, []string{s.topic}, handler{s})
		if errors.Is(err, sarama.ErrClosedClient) || errors.Is(err, sarama.ErrClosedConsumerGroup) {
			return err
		}
		if err != nil && s.stop.Err() == nil {
			s.report(err)
		}
		if time.Since(began) > steady {
			attempt = 1
		}
		if err != nil || attempt > 1 {
			s.wait(delay(attempt))
		}
	}
	return nil
}

// closeInTime returns what closes client at the end. If the subscription is
// stopped while the brokers are away, it is closed early: requests that nobody
// answers would hold the stop up.
func (s *subscription) closeInTime(client sarama.Client) func() {
	var watcher sync.WaitGroup
	over := make(chan struct{})
	watcher.Go(func() {
		select {
		case <-s.stop.Done():
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
		_ = client.Close() // closed already if it was late
	}
}

// report tells Hooks.Error of a failure that is retried.
func (s *subscription) report(err error) {
	s.conf.Hooks.Error(s.topic, fmt.Errorf("group %s: %w", s.groupID, err))
}

func (s *subscription) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.stop.Done():
	}
}

// handler is the sarama.ConsumerGroupHandler of a subscription.
type handler struct{ sub *subscription }

func (handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim works on one partition until it is taken away. It never returns
// an error: that would end the session of every partition.
func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, sc sarama.ConsumerGroupClaim) error {
	c := newClaim(h.sub, session, sc)
	h.sub.enter(c)
	h.sub.conf.Hooks.Assigned(c.at(sc.InitialOffset()))
	c.run(sc.Messages())
	h.sub.leave(c)
	h.sub.conf.Hooks.Revoked(c.at(c.window.mark))
	return nil
}

func (s *subscription) enter(c *claim) {
	s.mu.Lock()
	s.claims[c.partition] = c
	s.mu.Unlock()
	c.held = s.paused.has(c.topic, c.partition) // a Pause from here on finds the claim
}

func (s *subscription) leave(c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims[c.partition] == c {
		delete(s.claims, c.partition)
	}
}
