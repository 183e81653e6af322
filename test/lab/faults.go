package lab

import (
	"fmt"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/internal/proc"
)

// PausePostmaster freezes only the process that accepts connections: open
// connections continue, new ones hang until p.Resume.
func PausePostmaster(p *harness.PostgresServer) error {
	pid := p.PID()
	if pid == 0 {
		return fmt.Errorf("pause the postmaster: %w", harness.ErrUnsupported)
	}
	return proc.Freeze(pid)
}

// FreePort returns a TCP port of the loopback interface that nobody listens on,
// and that no process of this user is given again while this one lives.
func FreePort() (int, error) { return proc.FreePort() }
