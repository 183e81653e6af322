//go:build linux || darwin || freebsd || netbsd || openbsd

package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Account is the user that a server runs as; nil is our own.
type Account struct{ uid, gid uint32 }

// Unprivileged returns the account for servers that refuse root: nil unless we
// are root, else postgres or nobody.
func Unprivileged() (*Account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseInt(u.Uid, 10, 64) // macOS writes nobody as -2
		gid, err2 := strconv.ParseInt(u.Gid, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &Account{uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("postgres refuses to run as root, and there is neither a user postgres nor a user nobody: " +
		"add one (useradd --system postgres), or run this as another user")
}

// Own gives path to the account.
func (a *Account) Own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// Detach puts cmd into a session of its own, so that a Ctrl-C on the terminal
// does not reach it, and makes it run as a.
func Detach(cmd *exec.Cmd, a *Account) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
}

var signals = map[string]syscall.Signal{
	"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
}

// Signal sends the signal of that name to one process.
func Signal(pid int, signal string) error {
	sig, ok := signals[signal]
	if !ok {
		return fmt.Errorf("signal %q is not known", signal)
	}
	return syscall.Kill(pid, sig)
}

// Freeze stops a process where it is.
func Freeze(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) }

// freezeLimit bounds how long FreezeTree waits for the kernel: a thread stops when
// it is scheduled next, or when its disk has answered.
const freezeLimit = time.Minute

// FreezeTree stops a process and all its descendants, and returns once none of
// their threads runs.
func FreezeTree(pid int) error {
	if err := Freeze(pid); err != nil {
		return err
	}
	tree := append(descendants(pid), pid)
	for _, p := range tree[:len(tree)-1] {
		_ = Freeze(p) // it may have ended meanwhile
	}
	for deadline := time.Now().Add(freezeLimit); !allFrozen(tree); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("freeze %d: it still runs after %s", pid, freezeLimit)
		}
	}
	return nil
}

func allFrozen(pids []int) bool {
	return !slices.ContainsFunc(pids, func(pid int) bool { return !frozen(pid) })
}

// ThawTree lets a process and all its descendants continue.
func ThawTree(pid int) error {
	for _, p := range descendants(pid) {
		_ = syscall.Kill(p, syscall.SIGCONT)
	}
	return syscall.Kill(pid, syscall.SIGCONT)
}

// KillTree ends a process and all its descendants. The process is frozen first,
// so that it starts no more of them.
func KillTree(pid int) error {
	if err := Freeze(pid); err != nil {
		return err
	}
	for _, p := range descendants(pid) {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// flock takes a lock on f that the kernel releases when this process ends. It
// reports false if wait is false and another open file holds it.
func flock(f *os.File, exclusive, wait bool) (bool, error) {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		default:
			return false, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// lockByte takes byte n of f until this process ends. It reports false if another
// process has it; this one may take it as often as it likes.
func lockByte(f *os.File, n int64) (bool, error) {
	err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: n, Len: 1})
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock byte %d of %s: %w", n, f.Name(), err)
	}
	return true, nil
}
