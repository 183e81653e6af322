package harness_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

// echo is a server that sends every line back.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); conns.Wait() })
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// talk sends a line and reads one back within the limit.
func talk(conn net.Conn, line string, limit time.Duration) (string, error) {
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// connected returns a proxy and a connection through it that has carried a line.
func connected(t *testing.T) (*harness.Proxy, net.Conn) {
	t.Helper()
	p := harness.NewProxy(t, echo(t))
	conn := dial(t, p.Addr())
	got, err := talk(conn, "a", 20*time.Second)
	require.NoError(t, err)
	require.Equal(t, "a\n", got)
	return p, conn
}

func TestProxy_CarriesAndDelays(t *testing.T) {
	t.Parallel()
	p, conn := connected(t)
	p.Delay(150 * time.Millisecond)
	began := time.Now()
	_, err := talk(conn, "b", 20*time.Second)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond, "once in each direction")
	require.NoError(t, p.Heal())
	require.Eventually(t, func() bool {
		began := time.Now()
		_, err := talk(conn, "c", 20*time.Second)
		return err == nil && time.Since(began) < 150*time.Millisecond
	}, 2*time.Minute, time.Millisecond)
}

func TestProxy_CutResetsAndRefusesUntilHealed(t *testing.T) {
	t.Parallel()
	p, conn := connected(t)
	p.Cut()
	_, err := talk(conn, "b", 20*time.Second)
	require.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE), "got %v", err)
	_, err = net.Dial("tcp", p.Addr())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, p.Heal())
	_, err = talk(dial(t, p.Addr()), "c", 20*time.Second)
	require.NoError(t, err)
}

func TestProxy_DropResetsButTakesNewConnections(t *testing.T) {
	t.Parallel()
	p, conn := connected(t)
	p.Drop()
	_, err := talk(conn, "b", 20*time.Second)
	require.Error(t, err)
	_, err = talk(dial(t, p.Addr()), "c", 20*time.Second)
	require.NoError(t, err)
}

func TestProxy_BlackholeHoldsWhatIsSentUntilHealed(t *testing.T) {
	t.Parallel()
	p, conn := connected(t)
	p.Blackhole()
	_, err := talk(conn, "held", 200*time.Millisecond)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = talk(dial(t, p.Addr()), "new", 200*time.Millisecond)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "a new connection hangs too")
	require.NoError(t, p.Heal())
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	got, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", got)
}
