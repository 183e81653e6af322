package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// ErrUnsupported is returned for what a platform or a kind of server cannot do.
var ErrUnsupported = errors.New("not possible with this kind of server")

// StartLimit bounds the start of one server, on a machine busy with other things.
const StartLimit = 90 * time.Second

// Process is a server that runs as a program. Its methods are not safe for
// concurrent use.
type Process struct {
	// Command returns a new command for each start.
	Command func() *exec.Cmd
	// Ready returns nil once the server answers.
	Ready func(ctx context.Context) error
	// Account runs the server; nil is our own.
	Account *Account
	// Log is the file for the server's output.
	Log string
	// StopSignal asks for a clean end. AbortSignal is what the cleaner sends.
	StopSignal, AbortSignal string
	// Crashed cleans up after Kill. It may be nil.
	Crashed func()

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// PID is the id of the running process, 0 if there is none.
func (p *Process) PID() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// stillHeld is what Postgres says while processes of a server that was killed hold its
// shared memory: the kernel ends them a moment after the kill.
const stillHeld = "pre-existing shared memory block"

// Start runs the program and returns when it answers.
func (p *Process) Start(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, StartLimit)
	defer cancel()
	for {
		err := p.launch(ctx)
		if err == nil || !strings.Contains(err.Error(), stillHeld) {
			return err
		}
		select {
		case <-limit.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (p *Process) launch(ctx context.Context) error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	cmd := p.Command()
	cmd.Stdout, cmd.Stderr = log, log
	Detach(cmd, p.Account)
	err = cmd.Start()
	_ = log.Close()
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	p.cmd, p.done = cmd, done
	if err := Watch(cmd.Process.Pid, p.AbortSignal); err != nil {
		return errors.Join(err, p.Kill())
	}
	if err := p.awaitReady(ctx); err != nil {
		return errors.Join(err, p.Kill())
	}
	return nil
}

// awaitReady polls until the process answers, and gives up when it ends.
func (p *Process) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, StartLimit)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended (%s), saying:\n%s", p.cmd.ProcessState, Tail(p.Log))
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w; it said:\n%s", err, Tail(p.Log))
		case <-tick.C:
		}
	}
}

// Stop asks the process to end, and kills it if it does not.
func (p *Process) Stop(ctx context.Context) error {
	if p.cmd == nil {
		return nil
	}
	pid := p.PID()
	_ = ThawTree(pid)
	_ = Signal(pid, p.StopSignal)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	select {
	case <-p.done:
		p.forget()
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("killed, as it did not end: %w", ctx.Err()), p.Kill())
	}
}

// Kill ends the process and its descendants at once.
func (p *Process) Kill() error {
	if p.cmd == nil {
		return nil
	}
	_ = KillTree(p.PID()) // it may have ended by itself
	<-p.done
	p.forget()
	if p.Crashed != nil {
		p.Crashed()
	}
	return nil
}

func (p *Process) forget() {
	Unwatch(p.PID())
	p.cmd = nil
}

// Pause freezes the process and its descendants.
func (p *Process) Pause() error {
	if p.cmd == nil {
		return os.ErrProcessDone
	}
	return FreezeTree(p.PID())
}

// Resume lets a paused process continue.
func (p *Process) Resume() error {
	if p.cmd == nil {
		return os.ErrProcessDone
	}
	return ThawTree(p.PID())
}

// Run runs a program to its end as account a.
func Run(ctx context.Context, a *Account, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Dir = os.TempDir()
	Detach(cmd, a)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, strings.TrimSpace(out.String()))
	}
	return nil
}

// Tail returns the last lines of a log.
func Tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > 4000 {
		b = b[len(b)-4000:]
	}
	return strings.TrimSpace(string(b))
}
