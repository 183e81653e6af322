package outbox

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/internal/problems"
)

// SubscriberConfig configures a Subscriber. The zero value is usable.
type SubscriberConfig struct {
	// Group names the cursor: subscribers of one group and topic stand in for each
	// other, one at a time; each group gets every message. 1 to 20 characters of
	// [A-Za-z0-9._-]. Default "watermill".
	Group string
	// Keys is how many messages, of different keys, are delivered at once and not
	// yet acknowledged. Default 64.
	Keys int
	// BatchRows is the maximum number of rows of one read. Default 100.
	BatchRows int
	// WindowRows is the maximum number of rows that are read and not yet covered by
	// the saved cursor: the bound on duplicates after a crash. At least BatchRows.
	// Default 1,000.
	WindowRows int
	// PollMin and PollMax bound the pause between reads that found nothing: it
	// doubles from one to the other. Default 1 ms and 50 ms.
	PollMin, PollMax time.Duration
	// LeaseTTL is how long the other subscribers of the group wait for one that
	// died. At least 200 ms. Default 2 s.
	LeaseTTL time.Duration
	// DrainTimeout bounds how long the end of a subscription waits for handlers.
	// Default 10 s.
	DrainTimeout time.Duration
	// RetryMax caps the pause before a nacked message is delivered again, and after
	// an error of the log. It doubles from 50 ms. Default 2 s.
	RetryMax time.Duration
	// Hooks are called by the relay of each subscription. Default: none.
	Hooks Hooks
	// Failed is called when a subscription ends with an error that retrying cannot
	// fix. The message channel is then closed. Default: none.
	Failed func(topic string, err error)
}

func (c SubscriberConfig) withDefaults() SubscriberConfig {
	c.Group = cmp.Or(c.Group, "watermill")
	c.Keys = cmp.Or(c.Keys, 64)
	c.BatchRows = cmp.Or(c.BatchRows, 100)
	c.WindowRows = cmp.Or(c.WindowRows, max(1000, c.BatchRows))
	if c.Failed == nil {
		c.Failed = func(string, error) {}
	}
	return c
}

var groupName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,20}$`)

func (c *SubscriberConfig) validate() error {
	var p problems.List
	p.Unless(groupName.MatchString(c.Group), "Group", "must be 1 to 20 characters of [A-Za-z0-9._-], is %q", c.Group)
	problems.Positive(&p, "Keys", c.Keys)
	relay := c.relay("", max(c.Keys, 1)).withDefaults() // the rest has the same names there
	p.AddAll(relay.validate())
	return p.Err()
}

// relay returns the configuration of one subscription's relay.
func (c *SubscriberConfig) relay(name string, lanes int) RelayConfig {
	return RelayConfig{
		Name: name, Lanes: lanes, BatchRows: c.BatchRows, WindowRows: c.WindowRows, PollMin: c.PollMin, PollMax: c.PollMax,
		LeaseTTL: c.LeaseTTL, DrainTimeout: c.DrainTimeout, RetryMax: c.RetryMax, Hooks: c.Hooks,
	}
}

// Subscriber is a Watermill subscriber that reads the outbox directly, without a
// broker. A nacked message is delivered again after a pause, before later messages
// of its key; other keys go on. The message's context ends when it is acknowledged
// and when the lease is lost.
//
// Each subscription is a relay to the message channel. It reads the whole log and
// acknowledges the messages of other topics unseen, so its cost grows with the log
// and not with the topic.
type Subscriber struct {
	log Log
	cfg SubscriberConfig

	mu      sync.Mutex
	closed  bool
	closing chan struct{}
	running sync.WaitGroup
}

var _ message.Subscriber = (*Subscriber)(nil)

// NewSubscriber returns a subscriber on log. It starts nothing.
func NewSubscriber(log Log, cfg SubscriberConfig) (*Subscriber, error) {
	cfg = cfg.withDefaults()
	var p problems.List
	p.NotNil("log", log != nil)
	p.AddAll(cfg.validate())
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("outbox subscriber: %w", err)
	}
	return &Subscriber{log: log, cfg: cfg, closing: make(chan struct{})}, nil
}

// relay returns the relay of a subscription to topic.
func (s *Subscriber) relay(topic string, c *channel) (*Relay, error) {
	name := s.cfg.Group + "." + topic
	if len(name) > 64 { // a long topic's name could be cut only where others may be equal
		sum := sha256.Sum256([]byte(topic))
		name = s.cfg.Group + "." + hex.EncodeToString(sum[:20])
	}
	return NewRelay(s.log, c, s.cfg.relay(name, s.cfg.Keys))
}

// Subscribe starts delivering the messages of topic, from the group's cursor on.
// The channel is closed when ctx ends or the subscriber is closed, after the
// running handlers have answered or DrainTimeout has passed. After Close it returns
// ErrClosed.
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
		return nil, fmt.Errorf("subscribe to outbox: %w", ErrClosed)
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
		if err := relay.Run(ctx); err != nil {
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

// channel is a message.Publisher that sends to a handler behind a Go channel.
// Publish returns nil when the handler has acknowledged.
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
		// A message in a handler may still be acknowledged: wait before giving up.
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

// enter registers a handler, unless the subscription is ending.
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
