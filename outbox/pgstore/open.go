package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"time"

	"github.com/lib/pq"
)

// OpenConfig configures Open. The zero value is usable.
type OpenConfig struct {
	// ReplyTimeout is the longest that the server may be silent while an answer
	// is due; then the connection is given up. It is what ends a wait on a frozen
	// server or a half-open connection, which a context cannot end in lib/pq.
	// Every statement of the pool must be shorter. Default 10 s.
	ReplyTimeout time.Duration
	// DialTimeout bounds the making of a connection. Default 5 s.
	DialTimeout time.Duration
}

// Open returns a pool for a relay process: one that never waits for ever. A
// service that embeds the relay may use its own pool instead. It does no I/O.
func Open(dsn string, cfg OpenConfig) (*sql.DB, error) {
	if cfg.ReplyTimeout == 0 {
		cfg.ReplyTimeout = 10 * time.Second
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = 5 * time.Second
	}
	connector, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres address: %w", err)
	}
	connector.Dialer(impatientDialer{cfg})
	return sql.OpenDB(connector), nil
}

type impatientDialer struct{ cfg OpenConfig }

// DialContext implements pq.DialerContext.
func (d impatientDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: d.cfg.DialTimeout, KeepAlive: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return impatientConn{conn, d.cfg.ReplyTimeout}, nil
}

// Dial implements pq.Dialer.
func (d impatientDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout implements pq.Dialer.
func (d impatientDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// impatientConn limits each read, and each write, in time. lib/pq reads only
// when it waits for an answer.
type impatientConn struct {
	net.Conn
	timeout time.Duration
}

// Read implements net.Conn.
func (c impatientConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Write implements net.Conn.
func (c impatientConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
