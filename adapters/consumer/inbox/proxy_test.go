package inbox_test

import (
	"bytes"
	"database/sql"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands before a Postgres server and can spoil the next COMMIT.
type proxy struct {
	listener net.Listener
	server   string
	mode     atomic.Int32
	spoiled  atomic.Int32
	wg       sync.WaitGroup
}

const (
	passOn     int32 = iota
	loseReply        // COMMIT reaches the server, its answer is lost
	loseCommit       // COMMIT never reaches the server
)

// behindProxy opens the database of s through a proxy.
func behindProxy(t *testing.T, s *store) (*proxy, *sql.DB) {
	t.Helper()
	u, err := url.Parse(s.dsn)
	require.NoError(t, err)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, server: u.Host}
	p.wg.Go(p.accept)
	u.Host = l.Addr().String()
	db, err := sql.Open("postgres", u.String())
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = db.Close()
		_ = l.Close()
		p.wg.Wait()
	})
	return p, db
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
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

func (p *proxy) forward(client, server net.Conn, mute *atomic.Bool) {
	defer func() { _, _ = client.Close(), server.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("COMMIT\x00")) {
			switch p.mode.Swap(passOn) {
			case loseCommit:
				p.spoiled.Add(1)
				return
			case loseReply:
				p.spoiled.Add(1)
				mute.Store(true)
			}
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// answer carries the server's bytes back, or drops the connection at the first
// one it is to keep to itself.
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
