package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// session is one life of the connection to Kafka: a Sarama client behind a gate,
// and a producer for each size limit in use. It ends with the first failure that
// surfaces, with the context of a caller, or when it is asked to; then nothing
// more is written, and every message without a verdict is given up.
type session struct {
	pub    *Publisher
	gate   *gate
	conf   *sarama.Config
	client sarama.Client

	feeders sync.WaitGroup // callers that write to a lane's input
	acks    sync.WaitGroup // messages whose ack has not returned
	open    atomic.Int64   // the same, as a number
	lossy   atomic.Bool    // a message was failed
	ended   chan struct{}  // closed when all is over and all acks have returned

	laneMu sync.Mutex
	lanes  map[int]*lane

	mu       sync.Mutex
	batches  map[*batch]struct{}
	limits   map[string]int // size limit of each topic in use, fixed for the session's life
	retiring bool           // no more batches; ends when it is idle
	ending   bool           // no more batches; the gate is shut or about to be
	dead     bool           // no more successes
	cause    error          // why it ended; nil if it was idle
	failures []failure
	stopSolo func() // ends resendSingly
}

// failure is a message that Sarama has given back.
type failure struct {
	slot *slot
	err  error
}

// connect opens a session, trying until ctx ends or the publisher closes.
func (p *Publisher) connect(ctx context.Context) (*session, error) {
	for n := 1; ; n++ {
		s, err := p.tryConnect(ctx)
		if err == nil {
			return s, nil
		}
		if err := p.over(ctx); err != nil {
			return nil, err
		}
		p.trouble(err)
		t := time.NewTimer(p.cfg.backoff(n))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, context.Cause(ctx)
		case <-p.life.Done():
			t.Stop()
			return nil, ErrClosed
		}
	}
}

func (p *Publisher) tryConnect(ctx context.Context) (*session, error) {
	conf := *p.sarama
	g := newGate()
	g.install(&conf)
	// Waiting is done by steadyClient and by BackoffFunc, which the gate can end.
	conf.Metadata.Retry.Max = 0
	conf.Producer.Transaction.Retry.Max = 0
	backoff := conf.Producer.Retry.BackoffFunc
	conf.Producer.Retry.BackoffFunc = func(retries, most int) time.Duration {
		p.trouble(errRetrying)
		if backoff != nil {
			g.wait(backoff(retries, most))
		} else {
			g.wait(conf.Producer.Retry.Backoff)
		}
		return 0
	}
	unwatch := [...]func() bool{context.AfterFunc(ctx, g.shut), context.AfterFunc(p.life, g.shut)}
	client, err := sarama.NewClient(p.cfg.Brokers, &conf)
	for _, stop := range unwatch {
		if !stop() && err == nil { // the gate is shut: this client is of no use
			err = errors.Join(errShut, client.Close())
		}
	}
	if err != nil {
		g.shut()
		return nil, fmt.Errorf("connect to Kafka at %v: %w", p.cfg.Brokers, err)
	}
	return &session{
		pub: p, gate: g, conf: &conf, client: client,
		ended: make(chan struct{}), batches: map[*batch]struct{}{}, lanes: map[int]*lane{}, limits: map[string]int{},
	}, nil
}

// admit takes b into the session, which from then on settles each of its slots.
// It is false if the session takes no more, or if a topic's limit has changed:
// then the session retires. The caller must feed b afterwards.
func (s *session) admit(ctx context.Context, b *batch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pin(b) {
		s.retire()
	}
	if s.retiring || s.ending {
		return false
	}
	b.left.Store(int64(len(b.slots)))
	s.open.Add(int64(len(b.slots)))
	s.acks.Add(len(b.slots))
	s.batches[b] = struct{}{}
	s.feeders.Add(1)
	b.unwatch = context.AfterFunc(ctx, func() { s.abort(b, context.Cause(ctx)) })
	return true
}

// pin fixes the limits of b's topics, so that no topic moves to another lane while
// messages of it are on their way. Requires s.mu.
func (s *session) pin(b *batch) bool {
	var topic string
	for i := range b.slots {
		sl := &b.slots[i]
		if i > 0 && sl.msg.Topic == topic {
			continue
		}
		topic = sl.msg.Topic
		if limit, ok := s.limits[topic]; !ok {
			s.limits[topic] = sl.limit
		} else if limit != sl.limit {
			return false
		}
	}
	return true
}

// feed hands b to Sarama, waiting for room. It returns early if the session ends.
func (s *session) feed(b *batch) {
	defer s.feeders.Done()
	var l *lane
	for i := range b.slots {
		sl := &b.slots[i]
		if l == nil || l.limit != sl.limit {
			if l = s.lane(sl.limit); l == nil {
				return
			}
		}
		select {
		case l.producer.Input() <- &sl.msg:
		case <-s.gate.shutting:
			return
		}
	}
}

// succeed settles a message that the broker has made durable.
func (s *session) succeed(sl *slot) {
	s.mu.Lock()
	if s.dead || sl.settled {
		s.mu.Unlock()
		return
	}
	sl.settled = true
	s.mu.Unlock()
	s.pub.fine()
	s.tell(sl, nil)
}

// tell calls ack for a slot that the caller has marked settled.
func (s *session) tell(sl *slot, err error) {
	b := sl.batch
	if err != nil {
		s.lossy.Store(true)
	}
	last := b.left.Add(-1) == 0
	if last {
		b.unwatch() // before the ack: the caller may end the batch's context on it
	}
	b.ack(sl.index, err)
	if last {
		s.mu.Lock()
		delete(s.batches, b)
		s.mu.Unlock()
	}
	if s.open.Add(-1) == 0 {
		s.mu.Lock()
		if s.retiring {
			s.end(nil)
		}
		s.mu.Unlock()
	}
	s.acks.Done()
}

// failed notes a message that Sarama gave back and begins the end. The gate goes
// first: see gate.barrier.
func (s *session) failed(sl *slot, err error) {
	s.gate.shut()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, failure{sl, err})
	s.end(err)
}

// abort gives up everything without a verdict, at once. The cause is that of
// batch own, or of everything if own is nil.
func (s *session) abort(own *batch, cause error) {
	s.gate.shut()
	s.mu.Lock()
	if s.dead {
		s.mu.Unlock()
		return
	}
	left := s.die()
	s.end(cause)
	if s.stopSolo != nil {
		s.stopSolo()
	}
	s.mu.Unlock()
	for _, sl := range left {
		if own == nil || sl.batch == own {
			s.tell(sl, cause)
		} else {
			s.tell(sl, gaveUp(cause))
		}
	}
}

// toldAll reports that the session is ending and every ack has returned.
func (s *session) toldAll() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending && s.open.Load() == 0
}

// die marks all slots without a verdict settled and returns them: the caller
// tells them theirs. Requires s.mu.
func (s *session) die() []*slot {
	s.dead = true
	var left []*slot
	for b := range s.batches {
		for i := range b.slots {
			if sl := &b.slots[i]; !sl.settled {
				sl.settled = true
				left = append(left, sl)
			}
		}
	}
	return left
}

// retire takes no more batches and ends the session when it is idle. Requires s.mu.
func (s *session) retire() {
	s.retiring = true
	if s.open.Load() == 0 {
		s.end(nil)
	}
}

// end begins the end of the session, once; the publisher waits for it. Requires s.mu.
func (s *session) end(cause error) {
	if s.ending {
		return
	}
	s.ending, s.cause = true, cause
	go s.finish()
}
