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

// errShut is what everything behind a shut gate gets. Sarama takes it for a
// message that cannot be encoded, the one failure that it neither retries nor
// counts in its circuit breakers.
var errShut = errors.Join(errGivenUp, sarama.PacketEncodingError{Info: "given up"})

// gate is the only way from one Sarama client to the network. Shutting it ends
// every connection, dial and wait of that client at once and for ever, which
// Sarama itself has no means to do; what was not written by then never will be.
type gate struct {
	under    proxy.Dialer // nil dials directly
	timeout  time.Duration
	shutting chan struct{}
	// ctx ends with shutting; it exists to end a dial that is under way.
	ctx    context.Context
	cancel context.CancelFunc
	// checks are asked before each write; see barrier.
	checks atomic.Pointer[[]chan<- struct{}]

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newGate() *gate {
	g := &gate{shutting: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// install makes g the way to the network of clients of sc, which must be the
// caller's own copy.
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

// wait sleeps for d and reports whether the gate is still open.
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

// addCheck makes every later write wait until somebody receives from c.
func (g *gate) addCheck(c chan<- struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	checks := []chan<- struct{}{c}
	if old := g.checks.Load(); old != nil {
		checks = append(checks, *old...)
	}
	g.checks.Store(&checks)
}

// barrier returns once every failure that Sarama has reported so far has been
// dealt with, and an error if that shut the gate. Sarama reports the failures of
// a partition's batch before it writes the next batch of that partition, so a
// failed message is never followed onto the wire by a later one of its key.
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
