package pgstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net"
	"time"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox/internal/problems"
)

// OpenConfig configures Open. The zero value is usable.
type OpenConfig struct {
	// ReplyTimeout is how long the server may be silent while an answer is due; then
	// the connection is closed. It ends a wait on a frozen server or a half-open
	// connection, which a context cannot end in lib/pq. Every statement of the pool
	// must take less time. Default 10 s.
	ReplyTimeout time.Duration
	// DialTimeout bounds the opening of a connection. Default 5 s.
	DialTimeout time.Duration
}

func (c OpenConfig) withDefaults() OpenConfig {
	c.ReplyTimeout = cmp.Or(c.ReplyTimeout, 10*time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, 5*time.Second)
	return c
}

// Open returns a pool for a relay process: one that never waits forever. A service
// that embeds the relay may use its own pool instead. It does no I/O.
func Open(dsn string, cfg OpenConfig) (*sql.DB, error) {
	cfg = cfg.withDefaults()
	var p problems.List
	problems.Positive(&p, "ReplyTimeout", cfg.ReplyTimeout)
	problems.Positive(&p, "DialTimeout", cfg.DialTimeout)
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("open postgres: %w", err)
	}
	connector, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres address: %w", err)
	}
	connector.Dialer(timeoutDialer{cfg})
	return sql.OpenDB(connector), nil
}

type timeoutDialer struct{ cfg OpenConfig }

// DialContext implements pq.DialerContext.
func (d timeoutDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: d.cfg.DialTimeout, KeepAlive: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return timeoutConn{conn, d.cfg.ReplyTimeout}, nil
}

// Dial implements pq.Dialer.
func (d timeoutDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout implements pq.Dialer.
func (d timeoutDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// timeoutConn limits each read, and each write, in time. lib/pq reads only
// when it waits for an answer.
type timeoutConn struct {
	net.Conn
	timeout time.Duration
}

// Read implements net.Conn.
func (c timeoutConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Write implements net.Conn.
func (c timeoutConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
