package lab

import (
	"context"
	"net"
	"time"
)

// patience is how much longer than its client a connection of DialPatiently waits.
const patience = time.Minute

// DialPatiently is a dialer for clients with short limits of servers that answer,
// however busy the machine is: it outlasts the limit of the dial, and puts off the
// deadlines of reads and writes by a minute.
func DialPatiently(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return patientConn{conn}, nil
}

type patientConn struct{ net.Conn }

func (c patientConn) SetDeadline(t time.Time) error      { return c.Conn.SetDeadline(later(t)) }
func (c patientConn) SetReadDeadline(t time.Time) error  { return c.Conn.SetReadDeadline(later(t)) }
func (c patientConn) SetWriteDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(later(t)) }

func later(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(patience)
}
