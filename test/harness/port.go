package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// FreePort returns a TCP port of the loopback interface that nobody listens on.
// It lies below the range from which the kernel takes the ports of outgoing
// connections, so that it stays free while its server is down. It knocks instead
// of listening: a child that another goroutine starts at that moment would
// inherit the listener, and hold the port until it execs.
func FreePort() (int, error) {
	for range 200 {
		port := 10000 + rand.IntN(22000)
		conn, err := net.DialTimeout("tcp", loopback(port), time.Second)
		if err != nil {
			return port, nil
		}
		conn.Close()
	}
	return 0, errors.New("no free port between 10000 and 32000")
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
