package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

// SubscriberConfig configures a Subscriber. The zero value is usable.
type SubscriberConfig struct {
	// Group names the cursor: subscribers of one group and topic stand in for
	// each other, one at a time; each group gets every message. 1 to 20
	// characters of [A-Za-z0-9._-]. Default "watermill".
	Group string
	// Keys is how many messages are handed out and not acknowledged at once, of
	// different keys. Default 64.
	Keys int
	// Relay tunes the rest; its Name and Lanes are set by Group and Keys.
	// BatchRows is 100 and WindowRows 1,000 by default here.
	Relay RelayConfig
	// Failed is called if a subscription ends for what a person must mend.
	// Default: nobody is told; the message channel is closed.
	Failed func(topic string, err error)
}

// Subscriber is a Watermill subscriber straight from the outbox, without a
// broker: each subscription is a relay to the message channel. A nacked message
// comes again after a pause, before later ones of its key; others go on. The
// message's context ends when it is acknowledged and when the lease is lost.
type Subscriber struct {
	log Log
	cfg SubscriberConfig

	mu      sync.Mutex
	closed  bool
	closing chan struct{}
	running sync.WaitGroup
}

var _ message.Subscriber = (*Subscriber)(nil)

// NewSubscriber returns a subscriber on log.
func NewSubscriber(log Log, cfg SubscriberConfig) (*Subscriber, error) {
	def(&cfg.Group, "watermill")
	def(&cfg.Keys, 64)
	def(&cfg.Relay.BatchRows, 100)
	def(&cfg.Relay.WindowRows, max(1000, cfg.Relay.BatchRows))
	cfg.Relay.Lanes = cfg.Keys
	s := &Subscriber{log: log, cfg: cfg, closing: make(chan struct{})}
	if len(cfg.Group) > 20 {
		return nil, fmt.Errorf("outbox subscriber: Group: %q has more than 20 characters", cfg.Group)
	}
	if _, err := s.relay("probe", &channel{}); err != nil {
		return nil, fmt.Errorf("outbox subscriber: %w", err)
	}
	return s, nil
}

func (s *Subscriber) relay(topic string, c *channel) (*Relay, error) {
	cfg := s.cfg.Relay
	cfg.Name = s.cfg.Group + "." + topic
	if len(cfg.Name) > 64 { // keep long topics apart: they may share any prefix
		sum := sha256.Sum256([]byte(topic))
		cfg.Name = s.cfg.Group + "." + hex.EncodeToString(sum[:20])
	}
	return NewRelay(s.log, c, cfg)
}

// Subscribe starts delivering the messages of topic, from the group's cursor on.
// The channel is closed when ctx ends or the subscriber is closed, after the
// handlers at work have answered or Relay.DrainTimeout has passed.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if reason := checkTopic(topic); reason != "" {
		return nil, fmt.Errorf("subscribe to outbox: topic %s", reason)
	}
	c := &channel{topic: topic, out: make(chan *message.Message), stopping: make(chan struct{})}
	relay, err := s.relay(topic, c)
	if err != nil {
		return nil, fmt.Errorf("subscribe to outbox: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("subscribe to outbox: subscriber is closed")
	}
	ctx, cancel := context.WithCancel(ctx)
	s.running.Go(func() {
		select {
		case <-s.closing:
		case <-ctx.Done():
		}
		close(c.stopping)
		cancel()
	})
	s.running.Go(func() {
		defer close(c.out)
		defer cancel()
		if err := relay.Run(ctx); err != nil && s.cfg.Failed != nil {
			s.cfg.Failed(topic, err)
		}
	})
	return c.out, nil
}

// Close ends all subscriptions and waits for them.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// channel is a message.Publisher whose broker is a handler behind a Go channel:
// Publish returns nil once the handler has acknowledged.
type channel struct {
	topic    string
	out      chan *message.Message
	stopping chan struct{}
	handling sync.WaitGroup
	mu       sync.Mutex // orders handling.Add before handling.Wait
}

var (
	errNacked   = errors.New("handler did not acknowledge")
	errStopping = errors.New("subscription is ending")
)

// Publish implements message.Publisher.
func (c *channel) Publish(topic string, msgs ...*message.Message) error {
	if topic != c.topic {
		return nil
	}
	for _, m := range msgs {
		if err := c.handle(m); err != nil {
			return err
		}
	}
	return nil
}

func (c *channel) handle(m *message.Message) error {
	ctx, cancel := context.WithCancel(m.Context()) // ends with the handling, too
	defer cancel()
	m.SetContext(ctx)
	if !c.enter() {
		// What is being handled may still be acknowledged, so giving up waits.
		c.handling.Wait()
		return giveUp{errStopping}
	}
	defer c.handling.Done()
	select {
	case c.out <- m:
	case <-c.stopping:
		return errNacked // tried again, and then given up with the rest
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-m.Acked():
		return nil
	case <-m.Nacked():
		return errNacked
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enter counts a handler in, unless the subscription is ending.
func (c *channel) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.stopping:
		return false
	default:
	}
	c.handling.Add(1)
	return true
}

// Close implements message.Publisher.
func (c *channel) Close() error { return nil }

// giveUp is an error after which a lane does not try again.
type giveUp struct{ error }

func (e giveUp) Unwrap() error { return e.error }
