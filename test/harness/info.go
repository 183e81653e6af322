package harness

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace-go/millrace/test/internal/fetch"
)

// Kind says what answers at a server's address.
type Kind string

// The kinds of servers.
const (
	Real     Kind = "real"     // started by the harness from an installation
	Twin     Kind = "twin"     // stands in for the real one, inside this process
	External Kind = "external" // was there before; the harness cannot control it
)

// ErrNotInstalled is in the error of a start that found nothing to start. The
// error's text says what to install.
var ErrNotInstalled = fetch.ErrNotInstalled

// Info says which server serves.
type Info struct {
	Name    string `json:"name"` // postgres, kafka, redis
	Kind    Kind   `json:"kind"`
	Version string `json:"version"`
	How     string `json:"how"` // where it came from
}

// String is the line that the harness prints: "postgres 15.18 (started from /usr/lib/postgresql/15/bin)".
func (i Info) String() string {
	return fmt.Sprintf("%s %s (%s)", i.Name, i.Version, i.How)
}

// announce prints the line of a server that tests share, and leaves it in the
// run's folder for the runner's summary.
func announce(i Info) {
	fmt.Fprintln(os.Stderr, "harness:", i)
	dir := os.Getenv(EnvRunDir)
	if dir == "" {
		return
	}
	f, err := os.OpenFile(filepath.Join(dir, "servers"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	fmt.Fprintln(f, i)
	_ = f.Close()
}
