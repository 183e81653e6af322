package lab

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// CommitFault is what a CommitProxy does to a COMMIT.
type CommitFault int32

// The faults.
const (
	PassOn     CommitFault = iota // nothing
	LoseReply                     // COMMIT reaches the server, its answer is lost with the connection
	LoseCommit                    // COMMIT never reaches the server, the connection is lost
	LoseServer                    // as LoseReply, and no connection is taken afterwards
)

// CommitProxy is a proxy to a Postgres server that can break a COMMIT. Its methods
// are safe for concurrent use.
type CommitProxy struct {
	listener net.Listener
	server   string
	fault    atomic.Int32
	broken   atomic.Int32
	closed   atomic.Bool
	wg       sync.WaitGroup
}

// NewCommitProxy starts a proxy to the server of dsn, a URL, and returns the one
// that leads through it. At the end of the test it waits for its connections:
// close the pools that use it in a t.Cleanup of your own.
func NewCommitProxy(t testing.TB, dsn string) (p *CommitProxy, through string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("lab: commit proxy:", err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal("lab: commit proxy:", err)
	}
	p = &CommitProxy{listener: l, server: u.Host}
	p.wg.Go(p.accept)
	t.Cleanup(func() { _ = l.Close(); p.wg.Wait() })
	u.Host = l.Addr().String()
	return p, u.String()
}

// BreakNext makes fault happen to the next COMMIT, and to that one alone.
func (p *CommitProxy) BreakNext(fault CommitFault) { p.fault.Store(int32(fault)) }

// Broken is how many COMMITs have been broken.
func (p *CommitProxy) Broken() int { return int(p.broken.Load()) }

func (p *CommitProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.closed.Load() {
			_ = client.Close()
			continue
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		var mute atomic.Bool
		p.wg.Go(func() { p.forward(client, server, &mute) })
		p.wg.Go(func() { answer(client, server, &mute) })
	}
}

func (p *CommitProxy) forward(client, server net.Conn, mute *atomic.Bool) {
	defer func() { _, _ = client.Close(), server.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("COMMIT\x00")) {
			switch fault := CommitFault(p.fault.Swap(int32(PassOn))); fault {
			case LoseCommit:
				p.broken.Add(1)
				return
			case LoseReply, LoseServer:
				p.broken.Add(1)
				p.closed.Store(fault == LoseServer)
				mute.Store(true)
			}
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// answer copies the server's bytes back. Once mute is set it drops the connection
// at the first byte.
func answer(client, server net.Conn, mute *atomic.Bool) {
	defer func() { _, _ = client.Close(), server.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil || mute.Load() {
			return
		}
		if _, err := io.Copy(client, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}
