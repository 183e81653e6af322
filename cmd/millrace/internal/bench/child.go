package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is `millrace relay` as a process of its own.
type child struct {
	cmd   *exec.Cmd
	said  output
	ended chan error
}

// startChild starts program, or this one if it is empty, as a relay. It runs
// until stop; if ctx ends before, it is asked to end.
func startChild(ctx context.Context, program, dsn string, brokers []string, relay string) (*child, error) {
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		program = self
	}
	c := &child{ended: make(chan error, 1)}
	c.cmd = exec.CommandContext(ctx, program, "relay", "--kafka", strings.Join(brokers, ","), "--relay-name", relay, "--dev")
	c.cmd.Env = append(os.Environ(), "MILLRACE_POSTGRES="+dsn)
	c.cmd.Stdout, c.cmd.Stderr = &c.said, &c.said
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = 15 * time.Second
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("relay process: %w", err)
	}
	go func() { c.ended <- c.cmd.Wait() }()
	return c, nil
}

// stop ends the process and returns an error unless it ended well.
func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended: Wait tells
	err := <-c.ended
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("relay process: %w; it said:\n%s", err, c.said.String())
	}
	return nil
}

// peakRSS is the largest amount of memory that the process has had resident so far, in MiB,
// and 0 where /proc does not tell. The figure that wait4 gives is no use: it
// begins with that of the process which started this one.
func (c *child) peakRSS() float64 {
	text := strings.TrimSuffix(procField(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid), "VmHWM"), " kB")
	kib, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return round1(kib / 1024)
}

// processorTime is what the process has used so far, user and system, to the
// clock tick of 10 ms; ok is false where /proc does not tell.
func (c *child) processorTime() (used time.Duration, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, false
	}
	_, rest, _ := bytes.Cut(text, []byte(") ")) // the name in front may hold anything
	fields := strings.Fields(string(rest))
	if len(fields) < 13 {
		return 0, false
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err1 == nil && err2 == nil
}

// childRelay is the rival of Drain that measures a process's memory.
func (a *drainBench) childRelay(ctx context.Context, round int) error {
	c, err := startChild(context.WithoutCancel(ctx), a.cfg.Program, a.set.Postgres, a.set.Kafka, fmt.Sprintf("bench-%d", round))
	if err != nil {
		return err
	}
	select {
	case err := <-c.ended:
		return fmt.Errorf("relay process ended: %w; it said:\n%s", errors.Join(err, errEnded), c.said.String())
	case <-ctx.Done():
	}
	a.peaks = append(a.peaks, c.peakRSS())
	return c.stop()
}

var errEnded = errors.New("by itself")

// output keeps what a process says.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
