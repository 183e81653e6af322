package kafka

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"golang.org/x/net/proxy"
)

var errGivenUp = errors.New("kafka: connection was given up")

// errShut is the error of everything behind a shut gate. Sarama treats it as a
// message that cannot be encoded: the only failure that it neither retries nor
// counts in its circuit breakers.
var errShut = errors.Join(errGivenUp, sarama.PacketEncodingError{Info: "given up"})

// gate is the dialer of one Sarama client: the client reaches the network only
// through it. Sarama cannot be asked to stop at once, and it keeps retrying and
// sending what it has queued. So the gate does two things that Sarama does not:
//
//   - shut ends every connection, dial and wait of the client at once and forever.
//     What was not written by then is never written.
//   - barrier delays each write until all failures that Sarama has reported so far
//     have been dealt with.
type gate struct {
	under    proxy.Dialer // nil dials directly
	timeout  time.Duration
	shutting chan struct{}
	// ctx ends with shutting: it ends a dial that is running.
	ctx    context.Context //nolint:containedctx // of what waits at the gate
	cancel context.CancelFunc
	// checks are sent to before each write; see barrier.
	checks atomic.Pointer[[]chan<- struct{}]

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newGate() *gate {
	g := &gate{shutting: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// install makes g the dialer of clients with sc, which must be the caller's own copy.
func (g *gate) install(sc *sarama.Config) {
	g.timeout = sc.Net.DialTimeout
	if sc.Net.Proxy.Enable {
		g.under = sc.Net.Proxy.Dialer
	}
	sc.Net.Proxy.Enable, sc.Net.Proxy.Dialer = true, g
}

// Dial implements proxy.Dialer.
func (g *gate) Dial(network, addr string) (net.Conn, error) {
	if g.isShut() {
		return nil, errShut
	}
	conn, err := g.dial(network, addr)
	if g.isShut() && err != nil {
		return nil, errShut
	}
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isShut() {
		return nil, errors.Join(errShut, conn.Close())
	}
	c := &gatedConn{Conn: conn, gate: g}
	g.conns[c] = struct{}{}
	return c, nil
}

func (g *gate) dial(network, addr string) (net.Conn, error) {
	if g.under != nil {
		return g.under.Dial(network, addr)
	}
	d := net.Dialer{Timeout: g.timeout, KeepAlive: 30 * time.Second}
	return d.DialContext(g.ctx, network, addr)
}

// shut closes the gate. When it returns, nothing more reaches the network.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isShut() {
		return
	}
	close(g.shutting)
	g.cancel()
	for c := range g.conns {
		_ = c.(*gatedConn).Conn.Close()
	}
	clear(g.conns)
}

func (g *gate) isShut() bool {
	select {
	case <-g.shutting:
		return true
	default:
		return false
	}
}

// wait waits for d and reports whether the gate is still open.
func (g *gate) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return !g.isShut()
	case <-g.shutting:
		return false
	}
}

// addCheck makes every later write wait until c is received from.
func (g *gate) addCheck(c chan<- struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	checks := []chan<- struct{}{c}
	if old := g.checks.Load(); old != nil {
		checks = append(checks, *old...)
	}
	g.checks.Store(&checks)
}

// barrier returns nil once every failure that Sarama has reported so far has been
// dealt with, and errShut if that shut the gate.
//
// It keeps order on the wire. Sarama reports the failures of a partition's batch on
// a channel before it writes the next batch of that partition. Without the barrier
// that write could come before the gate is shut. With it, the sequence is:
//
//  1. Sarama sends the failure of message 1 on its Errors channel, which has no
//     buffer: sizedProducer.readErrors has received it when the send returns.
//  2. Sarama calls Write with the batch of message 2. barrier sends to check, and
//     waits: readErrors is in producer.failed, which shuts the gate.
//  3. readErrors returns to its loop and receives from check.
//  4. barrier sees the shut gate, and message 2 is not written.
func (g *gate) barrier() error {
	if checks := g.checks.Load(); checks != nil {
		for _, c := range *checks {
			select {
			case c <- struct{}{}:
			case <-g.shutting:
				return errShut
			}
		}
	}
	if g.isShut() {
		return errShut
	}
	return nil
}

// gatedConn is a connection whose writes pass the barrier.
type gatedConn struct {
	net.Conn
	gate *gate
}

func (c *gatedConn) Write(b []byte) (int, error) {
	if err := c.gate.barrier(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *gatedConn) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.conns, c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}
