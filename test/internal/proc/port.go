package proc

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// FreePort returns a TCP port of the loopback interface that nobody listens on,
// and that no process of this user is given again while this one lives: a server
// may be slow to start, or down for a while. The port lies below the range from
// which the kernel takes the ports of outgoing connections. FreePort dials
// instead of listening: a child that another goroutine starts at that moment
// would inherit the listener, and hold the port until it execs.
func FreePort() (int, error) {
	for range 200 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if ours, err := ports.reserve(port); err != nil {
			return 0, fmt.Errorf("reserve a port: %w", err)
		} else if !ours {
			continue
		}
		conn, err := net.DialTimeout("tcp", Loopback(port), time.Second)
		if err != nil {
			return port, nil
		}
		conn.Close()
	}
	return 0, fmt.Errorf("no free port between %d and %d", lowestPort, highestPort)
}

const lowestPort, highestPort = 10000, 32000

// reservations are the ports that this process has been given. Each is a lock on
// a byte of a file that all processes of the user share.
type reservations struct {
	mu    sync.Mutex
	file  *os.File // closing it would end all its locks
	given map[int]bool
}

var ports reservations

// reserve reports whether port was free, and is ours now.
func (r *reservations) reserve(port int) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		path := filepath.Join(os.TempDir(), "millrace-ports-"+strconv.Itoa(os.Getuid()))
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return false, err
		}
		r.file, r.given = file, map[int]bool{}
	}
	if r.given[port] { // the lock itself keeps only other processes out
		return false, nil
	}
	ours, err := lockByte(r.file, int64(port))
	r.given[port] = ours
	return ours, err
}

// Loopback is the address of a port of this machine.
func Loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
