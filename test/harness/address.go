package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace-go/millrace/test/internal/proc"
)

// address is what the supervisor of a shared server writes for its clients.
type address struct {
	Info Info   `json:"info"`
	URL  string `json:"url"` // host:port of a Kafka broker
	PID  int    `json:"pid"` // of the server
}

// attach makes this process a client of the run's server of that name, and
// starts the server if it is not running. supervisor.go explains the locks.
func (s *sharedServers) attach(ctx context.Context, name string) (address, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*proc.StartLimit)
	defer cancel()
	dir, err := proc.RunFolder()
	if err != nil {
		return address{}, fmt.Errorf("%s: %w", name, err)
	}
	starting, err := proc.Acquire(ctx, filepath.Join(dir, name+".start"))
	if err != nil {
		return address{}, fmt.Errorf("%s: wait for its start: %w", name, err)
	}
	defer starting.Close()
	if err := s.holdUse(ctx, dir); err != nil {
		return address{}, fmt.Errorf("%s: %w", name, err)
	}
	if a, ok := readAddress(dir, name); ok {
		return a, nil
	}
	return startSupervisor(ctx, dir, name)
}

// holdUse takes the shared lock that tells supervisors that this process uses
// servers of the folder.
func (s *sharedServers) holdUse(ctx context.Context, dir string) error {
	for s.use == nil {
		f, ok, err := proc.TryLock(filepath.Join(dir, "use"), false)
		if err != nil {
			return err
		}
		if ok {
			s.use = f
			return nil
		}
		select { // a supervisor is looking whether anybody uses its server
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// readAddress reads the address of a server whose supervisor lives.
func readAddress(dir, name string) (address, bool) {
	f, free, err := proc.TryLock(filepath.Join(dir, name+".alive"), false)
	if free {
		_ = f.Close()
	}
	if free || err != nil {
		return address{}, false
	}
	var a address
	b, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil || json.Unmarshal(b, &a) != nil {
		return address{}, false
	}
	return a, true
}
