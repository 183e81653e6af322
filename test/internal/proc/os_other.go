//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package proc

import (
	"os"
	"os/exec"
)

// On this platform the harness starts no processes: servers are external or
// in-process twins.

const selfPath = ""

// Account is the user that a server runs as.
type Account struct{}

// Unprivileged is the account for servers that refuse root.
func Unprivileged() (*Account, error) { return nil, ErrUnsupported }

// Own would give a path to the account.
func (*Account) Own(string) error { return ErrUnsupported }

// Detach would put cmd into a session of its own.
func Detach(*exec.Cmd, *Account) {}

// Signal would send a signal.
func Signal(int, string) error { return ErrUnsupported }

// Freeze would stop a process.
func Freeze(int) error { return ErrUnsupported }

// FreezeTree would stop a process and its descendants.
func FreezeTree(int) error { return ErrUnsupported }

// ThawTree would let them continue.
func ThawTree(int) error { return ErrUnsupported }

// KillTree would end them.
func KillTree(int) error    { return ErrUnsupported }
func descendants(int) []int { return nil }

// Alive reports false: there are no processes of ours.
func Alive(int) bool                           { return false }
func flock(*os.File, bool, bool) (bool, error) { return false, ErrUnsupported }
func lockByte(*os.File, int64) (bool, error)   { return true, nil } // what runs is in this process
