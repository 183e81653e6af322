package harness

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/millrace-go/millrace/test/internal/proc"
)

// Proxy is a TCP proxy that can break the connections through it. Its methods
// are safe for concurrent use.
//
// Kafka clients go past a proxy to the address that the broker advertises: give
// the broker the proxy's, as KafkaConfig.Advertised.
type Proxy struct {
	addr, target string

	mu          sync.Mutex
	listener    net.Listener // nil while cut
	connections map[*connection]struct{}
	delay       time.Duration
	open        chan struct{} // closed while bytes may flow
	closed      bool
	wg          sync.WaitGroup
}

// NewProxy starts a proxy to target, host:port, that is closed at the end of the
// test. Each connection dials target again, so it need not be up yet.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := startProxy(target)
	if err != nil {
		t.Fatal("harness:", err)
	}
	t.Cleanup(p.close)
	return p
}

func startProxy(target string) (*Proxy, error) {
	port, err := proc.FreePort()
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{addr: proc.Loopback(port), target: target, connections: map[*connection]struct{}{}, open: make(chan struct{})}
	close(p.open)
	if err := p.listen(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return p, nil
}

// Addr is where clients connect; it stays the same.
func (p *Proxy) Addr() string { return p.addr }

// Drop resets all connections. New ones are taken.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
}

// Cut resets all connections and refuses new ones until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.drop()
}

// Blackhole lets no byte through in either direction until Heal; connections
// stay open and new ones are taken. What was sent meanwhile arrives after Heal.
func (p *Proxy) Blackhole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default:
	}
}

// Delay lets every byte arrive d later, in each direction. Zero ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Heal ends Cut, Blackhole and Delay.
func (p *Proxy) Heal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = 0
	p.unblock()
	if p.listener != nil || p.closed {
		return nil
	}
	return p.listen()
}

// close resets all connections, frees the port and waits for its goroutines.
func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.unblock()
	p.drop()
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) unblock() {
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

func (p *Proxy) drop() {
	for c := range p.connections {
		c.reset()
	}
}

func (p *Proxy) listen() error {
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.listener = l
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(conn.(*net.TCPConn)) })
		}
	})
	return nil
}
