package kafka

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/IBM/sarama"
)

// producer is one connection to Kafka from its first message to its first failure:
// a Sarama client behind a gate, and a sizedProducer for each size limit in use. It
// ends with the first message that fails, with the context of a caller, or when it
// is retired. From then on nothing more is written, and every message without a
// verdict is given up. The Publisher opens another one for the next batch.
//
// That is how order survives failures. A message that failed is never sent again by
// the producer that failed it, so it cannot overtake, or be overtaken by, what that
// producer had queued behind it.
type producer struct {
	pub    *Publisher
	gate   *gate
	conf   *sarama.Config
	client sarama.Client

	feeders   sync.WaitGroup // callers that write to a sizedProducer's input
	acks      sync.WaitGroup // messages whose ack has not returned
	open      atomic.Int64   // the same, as a number
	failedAny atomic.Bool    // a message has failed
	ended     chan struct{}  // closed when the producer has ended and all acks have returned

	sizedMu sync.Mutex
	sized   map[int]*sizedProducer

	mu         sync.Mutex
	batches    map[*batch]struct{}
	limits     map[string]int // size limit of each topic in use, fixed until the producer ends
	retiring   bool           // no more batches; ends when idle
	ending     bool           // no more batches; the gate is shut or about to be
	decided    bool           // every message has its verdict: later ones are ignored
	cause      error          // why it ended; nil if it was idle
	failures   []failure
	stopResend func() // ends resendSingly
}

// failure is a message that Sarama has given back.
type failure struct {
	message *outgoing
	err     error
}

// admit accepts b; from then on the producer acknowledges each of its messages. It
// returns false if the producer accepts no more, or if a topic's limit has changed:
// then the producer retires. The caller must feed b afterwards.
func (p *producer) admit(ctx context.Context, b *batch) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pin(b) {
		p.retire()
	}
	if p.retiring || p.ending {
		return false
	}
	b.left.Store(int64(len(b.messages)))
	p.open.Add(int64(len(b.messages)))
	p.acks.Add(len(b.messages))
	p.batches[b] = struct{}{}
	p.feeders.Add(1)
	b.unwatch = context.AfterFunc(ctx, func() { p.abort(b, context.Cause(ctx)) })
	return true
}

// pin fixes the limits of b's topics, so that no topic moves to another
// sizedProducer while messages of it are in flight. Requires p.mu.
func (p *producer) pin(b *batch) bool {
	var topic string
	for i := range b.messages {
		m := &b.messages[i]
		if i > 0 && m.msg.Topic == topic {
			continue
		}
		topic = m.msg.Topic
		if limit, ok := p.limits[topic]; !ok {
			p.limits[topic] = m.limit
		} else if limit != m.limit {
			return false
		}
	}
	return true
}

// feed hands b to Sarama, waiting while its queue is full. It returns early if the producer ends.
func (p *producer) feed(b *batch) {
	defer p.feeders.Done()
	var sp *sizedProducer
	for i := range b.messages {
		m := &b.messages[i]
		if sp == nil || sp.limit != m.limit {
			if sp = p.sizedFor(m.limit); sp == nil {
				return
			}
		}
		select {
		case sp.async.Input() <- &m.msg:
		case <-p.gate.shutting:
			return
		}
	}
}

// succeed acknowledges a message that the broker has made durable.
func (p *producer) succeed(m *outgoing) {
	p.mu.Lock()
	if p.decided || m.answered {
		p.mu.Unlock()
		return
	}
	m.answered = true
	p.mu.Unlock()
	p.pub.acknowledged()
	p.answer(m, nil)
}

// answer calls ack for a message that the caller has marked answered.
func (p *producer) answer(m *outgoing, err error) {
	b := m.batch
	if err != nil {
		p.failedAny.Store(true)
	}
	last := b.left.Add(-1) == 0
	if last {
		b.unwatch() // before the ack: the caller may end the batch's context on it
	}
	b.ack(m.index, err)
	if last {
		p.mu.Lock()
		delete(p.batches, b)
		p.mu.Unlock()
	}
	if p.open.Add(-1) == 0 {
		p.mu.Lock()
		if p.retiring {
			p.end(nil)
		}
		p.mu.Unlock()
	}
	p.acks.Done()
}

// failed records a message that Sarama gave back, and ends the producer. It shuts
// the gate first: see gate.barrier.
func (p *producer) failed(m *outgoing, err error) {
	p.gate.shut()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = append(p.failures, failure{m, err})
	p.end(err)
}

// abort gives up every message without a verdict at once. Those of batch own get
// cause itself, the others ErrGaveUp with it; all get cause itself if own is nil.
func (p *producer) abort(own *batch, cause error) {
	p.gate.shut()
	p.mu.Lock()
	if p.decided {
		p.mu.Unlock()
		return
	}
	left := p.takeUnanswered()
	p.end(cause)
	if p.stopResend != nil {
		p.stopResend()
	}
	p.mu.Unlock()
	for _, m := range left {
		if own == nil || m.batch == own {
			p.answer(m, cause)
		} else {
			p.answer(m, gaveUp(cause))
		}
	}
}

// allAnswered reports that the producer is ending and every ack has returned.
func (p *producer) allAnswered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ending && p.open.Load() == 0
}

// takeUnanswered returns the messages without a verdict and marks them answered:
// the caller must answer them. Requires p.mu.
func (p *producer) takeUnanswered() []*outgoing {
	p.decided = true
	var left []*outgoing
	for b := range p.batches {
		for i := range b.messages {
			if m := &b.messages[i]; !m.answered {
				m.answered = true
				left = append(left, m)
			}
		}
	}
	return left
}

// retire accepts no more batches and ends the producer when it is idle. Requires
// p.mu.
func (p *producer) retire() {
	p.retiring = true
	if p.open.Load() == 0 {
		p.end(nil)
	}
}

// end starts finish, once; the publisher waits for it. Requires p.mu.
func (p *producer) end(cause error) {
	if p.ending {
		return
	}
	p.ending, p.cause = true, cause
	go p.finish()
}
