package harness

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

// janitor is a process that outlives us by a moment: when our end of its pipe
// closes, for whatever reason, it ends the servers we left and removes their
// folders. It is started with the first server.
var janitor struct {
	sync.Mutex
	pipe *os.File
}

// tell sends one line to the janitor.
func tell(verb string, args ...string) error {
	janitor.Lock()
	defer janitor.Unlock()
	if janitor.pipe == nil {
		if err := hireJanitor(); err != nil {
			return fmt.Errorf("start the janitor: %w", err)
		}
	}
	_, err := fmt.Fprintln(janitor.pipe, strings.Join(append([]string{verb}, args...), "\t"))
	return err
}

func hireJanitor() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := roleCommand(roleJanitor)
	cmd.Stdin = r
	err = cmd.Start()
	if err = errors.Join(err, r.Close()); err != nil {
		return errors.Join(err, w.Close())
	}
	janitor.pipe = w
	return nil
}

// watch makes the janitor end pid with the signal of that name, and then for
// good, if we do not unwatch it first.
func watch(pid int, signal string) error { return tell("pid", strconv.Itoa(pid), signal) }
func unwatch(pid int)                    { _ = tell("ended", strconv.Itoa(pid)) }

// makeDir makes a temporary folder that the janitor removes if we do not.
func makeDir(name string) (string, error) {
	dir, err := os.MkdirTemp("", "millrace-"+name+"-")
	if err != nil {
		return "", err
	}
	return dir, tell("dir", dir)
}

func removeDir(dir string) error {
	err := os.RemoveAll(dir)
	_ = tell("removed", dir)
	return err
}

// runJanitor is the janitor's life.
func runJanitor(owner io.Reader) int {
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
// what is left after three seconds by force.
func endAll(pids map[int]string) {
	for pid, how := range pids {
		_ = thawTree(pid)
		_ = ask(pid, how)
	}
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left := false
		for pid := range pids {
			left = left || alive(pid)
		}
		if !left {
			return
		}
	}
	for pid := range pids {
		_ = killTree(pid)
	}
}
