package kafka

import (
	"context"
	"errors"
	"fmt"
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
// Order holds on the wire too: once a message of a partition has failed, no later
// message of that partition is written before the caller has the error. It is safe
// for concurrent use.
type Publisher struct {
	cfg       Config
	sarama    *sarama.Config
	marshaler marshaler
	topics    *topicCache

	// ctx ends with Close. It is kept because waits inside Sarama must end then,
	// whichever call began them.
	ctx    context.Context //nolint:containedctx // ends with Close
	cancel context.CancelFunc
	turn   chan struct{} // capacity 1: held while a producer is opened

	mu            sync.Mutex
	producer      *producer
	notBefore     time.Time // of the next producer
	failuresInRow int       // producers that failed without an acknowledgement between

	failedProducers atomic.Int64 // producers that have failed messages; see reported

	stateMu       sync.Mutex
	state         State
	isUnreachable atomic.Bool
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
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// Connect opens the connection now instead of at the first message, trying until
// it succeeds or ctx ends.
func (p *Publisher) Connect(ctx context.Context) error {
	_, err := p.acquire(ctx)
	return err
}

// acquire returns the producer, opening one if there is none.
func (p *Publisher) acquire(ctx context.Context) (*producer, error) {
	if pr, _ := p.current(); pr != nil {
		return pr, nil
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-p.ctx.Done():
		return nil, ErrClosed
	}
	if err := p.over(ctx); err != nil {
		return nil, err
	}
	pr, wait := p.current()
	if pr != nil {
		return pr, nil
	}
	if err := p.pause(ctx, wait); err != nil {
		return nil, err
	}
	pr, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.producer = pr
	p.mu.Unlock()
	return pr, nil
}

// over returns why waiting is pointless: ErrClosed or the cause of ctx. Nil means go on.
func (p *Publisher) over(ctx context.Context) error {
	if p.ctx.Err() != nil {
		return ErrClosed
	}
	return context.Cause(ctx)
}

func (p *Publisher) current() (*producer, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.producer, time.Until(p.notBefore)
}

// pause waits for d, and returns an error if ctx or the publisher ends first.
func (p *Publisher) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.ctx.Done():
		return ErrClosed
	}
}

// detach forgets a producer that has ended and answered all its messages; broken
// delays the next one.
func (p *Publisher) detach(pr *producer, broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.producer != pr {
		return // it was one of resendSingly
	}
	p.producer = nil
	if pr.failedAny.Load() {
		p.failedProducers.Add(1)
	}
	if broken {
		p.failuresInRow++
		p.notBefore = time.Now().Add(p.cfg.backoff(p.failuresInRow))
	}
}

// connect opens a producer, trying until ctx ends or the publisher closes.
func (p *Publisher) connect(ctx context.Context) (*producer, error) {
	for n := 1; ; n++ {
		pr, err := p.tryConnect(ctx)
		if err == nil {
			return pr, nil
		}
		if err := p.over(ctx); err != nil {
			return nil, err
		}
		p.unreachable(err)
		if err := p.pause(ctx, p.cfg.backoff(n)); err != nil {
			return nil, err
		}
	}
}

func (p *Publisher) tryConnect(ctx context.Context) (*producer, error) {
	conf := *p.sarama
	g := newGate()
	g.install(&conf)
	// Waiting is done by steadyClient and by BackoffFunc, which the gate can end.
	conf.Metadata.Retry.Max = 0
	conf.Producer.Transaction.Retry.Max = 0
	backoff := conf.Producer.Retry.BackoffFunc
	conf.Producer.Retry.BackoffFunc = func(retries, limit int) time.Duration {
		p.unreachable(errRetrying)
		if backoff != nil {
			g.wait(backoff(retries, limit))
		} else {
			g.wait(conf.Producer.Retry.Backoff)
		}
		return 0
	}
	unwatch := [...]func() bool{context.AfterFunc(ctx, g.shut), context.AfterFunc(p.ctx, g.shut)}
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
	return &producer{
		pub: p, gate: g, conf: &conf, client: client,
		ended: make(chan struct{}), batches: map[*batch]struct{}{}, sized: map[int]*sizedProducer{}, limits: map[string]int{},
	}, nil
}

// Close accepts no more messages, waits up to Config.CloseTimeout for those in
// flight, gives up the rest and closes all connections. A second call does nothing.
func (p *Publisher) Close() error {
	p.mu.Lock()
	closed := p.ctx.Err() != nil
	p.cancel()
	p.mu.Unlock()
	if closed {
		return nil
	}
	p.turn <- struct{}{} // never released: no producer is opened any more
	if pr, _ := p.current(); pr != nil {
		pr.mu.Lock()
		pr.retire()
		pr.mu.Unlock()
		t := time.NewTimer(p.cfg.CloseTimeout)
		defer t.Stop()
		select {
		case <-pr.ended:
		case <-t.C:
			pr.abort(nil, ErrClosed)
			<-pr.ended
		}
	}
	p.topics.close()
	return nil
}

// State is a publisher's view of the broker.
type State struct {
	// Reachable is false while messages or metadata cannot get through.
	Reachable bool
	// Since is when Reachable took its value.
	Since time.Time
	// Err is why the broker was not reachable last; nil while Reachable.
	Err error
	// InFlight is how many messages wait for the broker's acknowledgement.
	InFlight int
}

// State returns the publisher's view of the broker. A publisher that has sent
// nothing yet counts as reachable. A frozen broker is noticed after
// Config.RequestTimeout.
func (p *Publisher) State() State {
	p.stateMu.Lock()
	st := p.state
	p.stateMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.producer != nil {
		st.InFlight = int(p.producer.open.Load())
	}
	return st
}

// unreachable records that the broker could not be reached or asked to try again.
func (p *Publisher) unreachable(err error) {
	p.stateMu.Lock()
	changed := p.state.Reachable
	if changed {
		p.state.Reachable, p.state.Since = false, time.Now()
		p.isUnreachable.Store(true)
	}
	p.state.Err = err
	st := p.state
	p.stateMu.Unlock()
	p.reportState(changed, st)
}

// acknowledged records an acknowledgement. It is called for every message.
func (p *Publisher) acknowledged() {
	if !p.isUnreachable.Load() {
		return
	}
	p.stateMu.Lock()
	changed := !p.state.Reachable
	if changed {
		p.state = State{Reachable: true, Since: time.Now()}
		p.isUnreachable.Store(false)
	}
	st := p.state
	p.stateMu.Unlock()
	p.mu.Lock()
	p.failuresInRow = 0
	p.mu.Unlock()
	p.reportState(changed, st)
}

func (p *Publisher) reportState(changed bool, st State) {
	if changed {
		p.cfg.Hooks.State(st)
	}
}
