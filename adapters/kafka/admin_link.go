package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/IBM/sarama"
)

// link is an administrative connection. It is opened when it is needed, and again
// after it failed or was cut. Calls run one at a time.
type link struct {
	brokers []string
	conf    *sarama.Config
	turn    chan struct{} // capacity 1; guards conn

	conn *linked

	mu     sync.Mutex
	closed bool
	gate   *gate // of the connection that is being opened or in use
}

type linked struct {
	gate   *gate
	client sarama.Client
	admin  sarama.ClusterAdmin // closing it closes client
}

func newLink(cfg Config, sc *sarama.Config) *link {
	conf := *sc
	conf.Metadata.Retry.Max = 1
	conf.Metadata.Retry.Backoff, conf.Metadata.Retry.BackoffFunc = cfg.RetryBackoff, nil
	return &link{brokers: cfg.Brokers, conf: &conf, turn: make(chan struct{}, 1)}
}

// do calls f with a connection. The end of ctx cuts the connection, and so ends f:
// Sarama's own calls take no context.
func (l *link) do(ctx context.Context, f func(sarama.Client, sarama.ClusterAdmin) error) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g, err := l.prepare()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, g.shut)
	if err = l.connect(g); err == nil {
		err = f(l.conn.client, l.conn.admin)
	}
	if !stop() || g.isShut() || err != nil && !fromBroker(err) {
		l.drop(g)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// prepare returns the gate of the connection, or a new one to connect through.
func (l *link) prepare() (*gate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if l.gate == nil {
		l.gate = newGate()
	}
	return l.gate, nil
}

func (l *link) connect(g *gate) error {
	if l.conn != nil {
		return nil
	}
	conf := *l.conf
	g.install(&conf)
	client, err := sarama.NewClient(l.brokers, &conf)
	if err != nil {
		return fmt.Errorf("connect to Kafka at %v: %w", l.brokers, err)
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return errors.Join(fmt.Errorf("find the Kafka controller at %v: %w", l.brokers, err), client.Close())
	}
	l.conn = &linked{g, client, admin}
	return nil
}

// drop closes the connection, so that the next call opens a new one.
func (l *link) drop(g *gate) {
	g.shut()
	if l.conn != nil {
		_ = l.conn.admin.Close() // the gate is shut: nothing can be lost
		l.conn = nil
	}
	l.mu.Lock()
	l.gate = nil
	l.mu.Unlock()
}

// close ends the running call and refuses later ones.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	if l.gate != nil {
		l.gate.shut()
	}
	l.mu.Unlock()
	l.turn <- struct{}{} // never released
	if l.conn != nil {
		_ = l.conn.admin.Close()
		l.conn = nil
	}
}

// fromBroker reports that a broker answered, so the connection is good.
func fromBroker(err error) bool {
	var code sarama.KError
	return errors.As(err, &code)
}
