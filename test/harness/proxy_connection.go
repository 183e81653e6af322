package harness

import (
	"net"
	"sync"
	"time"
)

// connection is one connection through a proxy: its client's and its target's.
type connection struct {
	ended chan struct{} // closed by reset

	mu    sync.Mutex
	conns []*net.TCPConn
	over  bool
}

// add makes conn part of the connection, or closes it if the connection is over.
func (c *connection) add(conn *net.TCPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		_ = conn.Close()
		return false
	}
	c.conns = append(c.conns, conn)
	return true
}

// reset ends both connections with a TCP reset.
func (c *connection) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.over = true
	close(c.ended)
	for _, conn := range c.conns {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
}

// chunk is some bytes and when they may arrive.
type chunk struct {
	bytes []byte
	due   time.Time
}

// serve copies the bytes of one connection until it ends.
func (p *Proxy) serve(client *net.TCPConn) {
	c := &connection{ended: make(chan struct{})}
	defer c.reset()
	if !c.add(client) || !p.register(c) {
		_ = client.Close()
		return
	}
	defer p.unregister(c)
	conn, err := net.DialTimeout("tcp", p.target, 10*time.Second)
	if err != nil {
		return
	}
	target := conn.(*net.TCPConn)
	if !c.add(target) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copyBytes(c, client, target) })
	both.Go(func() { p.copyBytes(c, target, client) })
	both.Wait()
}

func (p *Proxy) register(c *connection) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.listener == nil {
		return false
	}
	p.connections[c] = struct{}{}
	return true
}

func (p *Proxy) unregister(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.connections, c)
}

// faults are the delay and the block that apply now.
func (p *Proxy) faults() (delay time.Duration, open <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay, p.open
}

// copyBytes copies one direction. Reading and writing have a goroutine each, so that
// a delay holds up every byte by the same time and costs no throughput.
func (p *Proxy) copyBytes(c *connection, from, to *net.TCPConn) {
	chunks := make(chan chunk, 1024)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(chunks)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if n > 0 {
				delay, _ := p.faults()
				select {
				case chunks <- chunk{bytes: buf[:n], due: time.Now().Add(delay)}:
				case <-c.ended:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer reading.Wait()
	for ch := range chunks {
		if !p.waitFor(c, ch.due) {
			return
		}
		if _, err := to.Write(ch.bytes); err != nil {
			c.reset()
			return
		}
	}
	_ = to.CloseWrite() // the other direction may still have bytes to send
}

// waitFor waits until a chunk may arrive; false if its connection ends first.
func (p *Proxy) waitFor(c *connection, due time.Time) bool {
	if wait := time.Until(due); wait > 0 {
		select {
		case <-time.After(wait):
		case <-c.ended:
			return false
		}
	}
	for {
		_, open := p.faults()
		select {
		case <-open:
			if _, now := p.faults(); now == open {
				return true
			}
		case <-c.ended:
			return false
		}
	}
}
