package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// ticket is what the supervisor of a shared server writes for its clients.
type ticket struct {
	Info    Info   `json:"info"`
	Address string `json:"address"`
	PID     int    `json:"pid"` // of the server
}

// runFolder is the folder of this run, made if need be.
func runFolder() (string, error) {
	dir := os.Getenv(EnvRunDir)
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "millrace-"+strconv.Itoa(os.Getuid()))
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// attach makes this process a client of the run's server of that name, and
// starts the server if nobody has.
func (c *clerk) attach(ctx context.Context, name string) (ticket, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*startLimit)
	defer cancel()
	dir, err := runFolder()
	if err != nil {
		return ticket{}, fmt.Errorf("%s: %w", name, err)
	}
	starting, err := acquire(ctx, filepath.Join(dir, name+".start"))
	if err != nil {
		return ticket{}, fmt.Errorf("%s: wait for its start: %w", name, err)
	}
	defer starting.Close()
	if err := c.enter(ctx, dir); err != nil {
		return ticket{}, fmt.Errorf("%s: %w", name, err)
	}
	if t, ok := readTicket(dir, name); ok {
		return t, nil
	}
	return startSupervisor(ctx, dir, name)
}

// enter takes the shared lock that tells supervisors somebody is there.
func (c *clerk) enter(ctx context.Context, dir string) error {
	for c.presence == nil {
		f, ok, err := tryLock(filepath.Join(dir, "use"), false)
		if err != nil {
			return err
		}
		if ok {
			c.presence = f
			return nil
		}
		select { // a supervisor is looking whether anybody is there
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// readTicket reads the address of a server whose supervisor lives.
func readTicket(dir, name string) (ticket, bool) {
	f, free, err := tryLock(filepath.Join(dir, name+".alive"), false)
	if free {
		_ = f.Close()
	}
	if free || err != nil {
		return ticket{}, false
	}
	var t ticket
	b, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil || json.Unmarshal(b, &t) != nil {
		return ticket{}, false
	}
	return t, true
}
