package proc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cleaner is a process that outlives this one by a moment. When our end of its
// pipe closes, for whatever reason, it ends the servers that we left running and
// removes their folders. It starts together with the first server.
var cleaner struct {
	sync.Mutex
	pipe *os.File
}

// tellCleaner sends one line to the cleaner, which it starts if need be.
func tellCleaner(verb string, args ...string) error {
	cleaner.Lock()
	defer cleaner.Unlock()
	if cleaner.pipe == nil {
		if err := startCleaner(); err != nil {
			return fmt.Errorf("start the cleaner: %w", err)
		}
	}
	_, err := fmt.Fprintln(cleaner.pipe, strings.Join(append([]string{verb}, args...), "\t"))
	return err
}

func startCleaner() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := RoleCommand(roleCleaner)
	cmd.Stdin = r
	err = cmd.Start()
	if err = errors.Join(err, r.Close()); err != nil {
		return errors.Join(err, w.Close())
	}
	cleaner.pipe = w
	return nil
}

// Watch makes the cleaner end pid, unless Unwatch comes first: with the signal of
// that name, and with SIGKILL if that does not help.
func Watch(pid int, signal string) error { return tellCleaner("pid", strconv.Itoa(pid), signal) }

// Unwatch withdraws Watch: the process has ended.
func Unwatch(pid int) { _ = tellCleaner("ended", strconv.Itoa(pid)) }

// MakeDir makes a temporary folder that the cleaner removes unless RemoveDir does.
func MakeDir(name string) (string, error) {
	dir, err := os.MkdirTemp("", "millrace-"+name+"-")
	if err != nil {
		return "", err
	}
	return dir, tellCleaner("dir", dir)
}

// RemoveDir removes a folder of MakeDir.
func RemoveDir(dir string) error {
	err := os.RemoveAll(dir)
	_ = tellCleaner("removed", dir)
	return err
}

// runCleaner is the whole life of the cleaner.
func runCleaner(owner io.Reader) int {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	pids, dirs := map[int]string{}, map[string]bool{}
	for lines := bufio.NewScanner(owner); lines.Scan(); {
		verb, args, _ := strings.Cut(lines.Text(), "\t")
		first, rest, _ := strings.Cut(args, "\t")
		pid, _ := strconv.Atoi(first)
		switch verb {
		case "pid":
			pids[pid] = rest
		case "ended":
			delete(pids, pid)
		case "dir":
			dirs[first] = true
		case "removed":
			delete(dirs, first)
		}
	}
	endAll(pids)
	for dir := range dirs {
		for range 20 {
			if os.RemoveAll(dir) == nil {
				break
			}
			time.Sleep(100 * time.Millisecond) // a dying process may still write there
		}
	}
	return 0
}

// endAll ends processes that are not our children: first by their signal, and
// what is left after three seconds by SIGKILL.
func endAll(pids map[int]string) {
	for pid, name := range pids {
		_ = ThawTree(pid)
		_ = Signal(pid, name)
	}
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left := false
		for pid := range pids {
			left = left || Alive(pid)
		}
		if !left {
			return
		}
	}
	for pid := range pids {
		_ = KillTree(pid)
	}
}
