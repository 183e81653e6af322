package kafka

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
)

// Publisher publishes to Kafka through one idempotent producer. It serves
// Watermill as a message.Publisher and the relay as a batch publisher.
//
// While the broker cannot be reached it retries for as long as its callers wait.
// What it promises of order holds on the wire too: once a message of a partition
// has failed, no later one of that partition is written before the caller has
// been told. It is safe for concurrent use.
type Publisher struct {
	cfg       Config
	sarama    *sarama.Config
	marshaler marshaler
	topics    *topicCache

	// life ends with Close. It is kept because waits inside Sarama must end
	// then, whoever began them.
	life    context.Context
	endLife context.CancelFunc
	turn    chan struct{} // capacity 1: held while a session is opened

	mu        sync.Mutex
	session   *session
	notBefore time.Time // of the next session
	breaks    int       // sessions lost without an acknowledgement between

	losses atomic.Int64 // sessions that have failed messages; see known

	stateMu  sync.Mutex
	state    State
	troubled atomic.Bool
}

var (
	_ message.Publisher     = (*Publisher)(nil)
	_ outbox.BatchPublisher = (*Publisher)(nil)
	_ outbox.Vetter         = (*Publisher)(nil)
)

// NewPublisher returns a publisher, which connects when it is first used. It
// refuses a configuration that is wrong or unsafe, with all reasons joined.
func NewPublisher(cfg Config) (*Publisher, error) {
	sc, err := cfg.saramaConfig()
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	p := &Publisher{
		cfg: cfg, sarama: sc, marshaler: marshaler{allowNoKey: cfg.AllowNoKey},
		turn: make(chan struct{}, 1), state: State{Reachable: true, Since: time.Now()},
	}
	p.topics = newTopicCache(newAdmin(cfg, sc), cfg.MaxMessageBytes)
	p.life, p.endLife = context.WithCancel(context.Background())
	return p, nil
}

// Connect opens the connection now instead of at the first message, trying until
// it succeeds or ctx ends.
func (p *Publisher) Connect(ctx context.Context) error {
	_, err := p.acquire(ctx)
	return err
}

// PublishBatch implements outbox.BatchPublisher. It waits, within ctx, while the
// broker cannot be reached or has no room. When ctx ends, everything that is
// under way in this publisher is given up.
func (p *Publisher) PublishBatch(ctx context.Context, entries []outbox.Entry, ack func(i int, err error)) {
	if ctx.Err() != nil {
		for i := range entries {
			ack(i, context.Cause(ctx))
		}
		return
	}
	known := p.known()
	p.send(ctx, p.encode(ctx, entries, ack), known)
}

// Vet implements outbox.Vetter: it refuses a message whose topic does not exist
// or may not be written, or that is larger than its topic allows. It waits only
// for the first word on a topic, or to see whether a limit has been raised, and a
// broker that cannot be reached refuses nothing that it did not refuse before.
func (p *Publisher) Vet(ctx context.Context, e *outbox.Entry) error {
	size := entrySize(e)
	err := p.topics.view(ctx, e.Topic).verdict(size)
	if err != nil && p.topics.doubt(e.Topic) {
		err = p.topics.view(ctx, e.Topic).verdict(size)
	}
	return err
}

// known returns how many sessions have failed messages of which every caller has
// been told.
func (p *Publisher) known() int64 {
	if s, _ := p.current(); s != nil && s.toldAll() {
		<-s.ended
	}
	return p.losses.Load()
}

// send hands b to a session, or fails all of it. It fails b if a session failed
// messages after known was taken: the caller began before it was told, so b may
// hold later messages of the same keys.
func (p *Publisher) send(ctx context.Context, b *batch, known int64) {
	if len(b.slots) == 0 {
		return
	}
	for {
		s, err := p.acquire(ctx)
		switch {
		case err == nil && ctx.Err() != nil:
			err = context.Cause(ctx)
		case err == nil && p.losses.Load() != known:
			err = gaveUp(errUnaware)
		}
		if err != nil {
			b.fail(err)
			return
		}
		if s.admit(ctx, b) {
			s.feed(b)
			return
		}
		select {
		case <-s.ended:
		case <-ctx.Done():
			b.fail(context.Cause(ctx))
			return
		}
	}
}

// acquire returns the session, opening one if there is none.
func (p *Publisher) acquire(ctx context.Context) (*session, error) {
	if s, _ := p.current(); s != nil {
		return s, nil
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-p.life.Done():
		return nil, ErrClosed
	}
	if err := p.over(ctx); err != nil {
		return nil, err
	}
	s, wait := p.current()
	if s != nil {
		return s, nil
	}
	if err := p.pause(ctx, wait); err != nil {
		return nil, err
	}
	s, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.session = s
	p.mu.Unlock()
	return s, nil
}

// over returns why there is nothing to wait for any more, nil if there is.
func (p *Publisher) over(ctx context.Context) error {
	if p.life.Err() != nil {
		return ErrClosed
	}
	return context.Cause(ctx)
}

func (p *Publisher) current() (*session, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session, time.Until(p.notBefore)
}

func (p *Publisher) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.life.Done():
		return ErrClosed
	}
}

// detach forgets a session that has ended and told everybody; broken makes the
// next one wait.
func (p *Publisher) detach(s *session, broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session != s {
		return // it served a single message
	}
	p.session = nil
	if s.lossy.Load() {
		p.losses.Add(1)
	}
	if broken {
		p.breaks++
		p.notBefore = time.Now().Add(p.cfg.backoff(p.breaks))
	}
}

// Close takes no more messages, waits up to Config.CloseTimeout for those under
// way, gives up the rest and releases everything. A second call does nothing.
func (p *Publisher) Close() error {
	p.mu.Lock()
	closed := p.life.Err() != nil
	p.endLife()
	p.mu.Unlock()
	if closed {
		return nil
	}
	p.turn <- struct{}{} // for ever: nobody opens a session any more
	if s, _ := p.current(); s != nil {
		s.mu.Lock()
		s.retire()
		s.mu.Unlock()
		t := time.NewTimer(p.cfg.CloseTimeout)
		defer t.Stop()
		select {
		case <-s.ended:
		case <-t.C:
			s.abort(nil, ErrClosed)
			<-s.ended
		}
	}
	p.topics.close()
	return nil
}
