//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package harness

import (
	"os"
	"os/exec"
)

// On this platform the harness starts no processes: servers are external or
// in-process twins.

const selfPath = ""

type account struct{}

func unprivileged() (*account, error)          { return nil, ErrUnsupported }
func (*account) own(string) error              { return ErrUnsupported }
func detach(*exec.Cmd, *account)               {}
func ask(int, string) error                    { return ErrUnsupported }
func freeze(int) error                         { return ErrUnsupported }
func freezeTree(int) error                     { return ErrUnsupported }
func thawTree(int) error                       { return ErrUnsupported }
func killTree(int) error                       { return ErrUnsupported }
func descendants(int) []int                    { return nil }
func alive(int) bool                           { return false }
func flock(*os.File, bool, bool) (bool, error) { return false, ErrUnsupported }
func lockByte(*os.File, int64) (bool, error)   { return true, nil } // what runs is in this process
