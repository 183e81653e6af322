package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/internal/proc"
)

// ProgramConfig says how to run a program.
type ProgramConfig struct {
	Path  string   // from Build, or any program
	Args  []string // without the program's name
	Env   []string // added to the test's own environment
	Dir   string   // default: the test's
	Stdin string   // what the program reads; default nothing
	// Interactive keeps the program's input open, after Stdin, for Program.Say.
	Interactive bool
}

// Program is a running program under test. It ends with the test at the latest,
// and with the test's process, however that ends.
type Program struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.WriteCloser // nil unless interactive
	stdout recorder
	stderr recorder
	done   chan struct{}
}

// StartProgram starts a program. If the test fails, the end of the program's
// output is logged.
func StartProgram(t testing.TB, cfg ProgramConfig) *Program {
	t.Helper()
	p := &Program{t: t, cmd: exec.Command(cfg.Path, cfg.Args...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = cfg.Dir, append(os.Environ(), cfg.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.feed(cfg); err != nil {
		t.Fatal("lab:", err)
	}
	p.cmd.WaitDelay = time.Second // its own children may keep its output open
	proc.Detach(p.cmd, nil)
	if err := p.cmd.Start(); err != nil {
		t.Fatal("lab:", err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	err := proc.Watch(p.PID(), "KILL")
	t.Cleanup(p.cleanUp)
	if err != nil {
		t.Fatal("lab:", err)
	}
	if cfg.Interactive && cfg.Stdin != "" {
		p.Say(cfg.Stdin)
	}
	return p
}

func (p *Program) feed(cfg ProgramConfig) (err error) {
	if !cfg.Interactive {
		p.cmd.Stdin = strings.NewReader(cfg.Stdin)
		return nil
	}
	p.stdin, err = p.cmd.StdinPipe()
	return err
}

// Say writes text to the input of a program that was started as interactive. A
// program that has ended does not hear it.
func (p *Program) Say(text string) {
	p.t.Helper()
	if p.stdin == nil {
		p.t.Fatalf("lab: %s was not started as interactive", p.cmd.Path)
	}
	if _, err := io.WriteString(p.stdin, text); err != nil && !p.ended() {
		p.t.Fatalf("lab: say to %s: %v", p.cmd.Path, err)
	}
}

// CloseInput ends the input of a program that was started as interactive.
func (p *Program) CloseInput() {
	if p.stdin != nil {
		_ = p.stdin.Close() // it may have ended by itself
	}
}

// PID is the program's process id.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Stdout is what the program has written to its standard output so far.
func (p *Program) Stdout() string { return p.stdout.String() }

// Stderr is what the program has written to its standard error so far.
func (p *Program) Stderr() string { return p.stderr.String() }

// AwaitOutput waits until text appears on either of the program's outputs, and
// fails the test if it does not or the program ends without it.
func (p *Program) AwaitOutput(text string, within time.Duration) {
	p.t.Helper()
	harness.Await(p.t, within, fmt.Sprintf("%s writes %q", p.cmd.Path, text), func(context.Context) error {
		ended := p.ended()
		if strings.Contains(p.Stdout(), text) || strings.Contains(p.Stderr(), text) {
			return nil
		}
		if ended {
			p.t.Fatalf("lab: %s ended (%s) without writing %q", p.cmd.Path, p.cmd.ProcessState, text)
		}
		return errors.New("it has not")
	})
}

// Wait waits for the program's end and returns its exit code, -1 if a signal
// ended it. It fails the test if the program has not ended in time.
func (p *Program) Wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.t.Fatalf("lab: %s has not ended within %s", p.cmd.Path, within)
		return 0
	}
}

// Terminate asks the program to end (SIGTERM) and waits for its exit code.
func (p *Program) Terminate(within time.Duration) int {
	p.t.Helper()
	p.Signal("TERM")
	return p.Wait(within)
}

// Signal sends INT, TERM, QUIT or KILL to the program alone. It does nothing if
// the program has ended.
func (p *Program) Signal(name string) {
	p.t.Helper()
	if p.ended() {
		return
	}
	if err := proc.Signal(p.PID(), name); err != nil && !p.ended() {
		p.t.Fatalf("lab: signal %s: %v", name, err)
	}
}

// Kill ends the program at once (SIGKILL) and waits for it. Children of the
// program are left to whatever looks after them when it crashes.
func (p *Program) Kill() {
	if !p.ended() {
		_ = proc.Signal(p.PID(), "KILL") // it may be ending by itself
	}
	<-p.done
}

// Pause freezes the program and its children until Resume.
func (p *Program) Pause() error { return proc.FreezeTree(p.PID()) }

// Resume lets a paused program continue.
func (p *Program) Resume() error { return proc.ThawTree(p.PID()) }

func (p *Program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *Program) cleanUp() {
	p.Kill()
	proc.Unwatch(p.PID())
	if p.t.Failed() {
		p.t.Logf("lab: %s (%s)\n--- stdout\n%s\n--- stderr\n%s", p.cmd, p.cmd.ProcessState,
			p.stdout.tail(4000), p.stderr.tail(8000))
	}
}

// recorder keeps what is written to it.
type recorder struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func (r *recorder) tail(n int) string {
	s := r.String()
	return s[max(0, len(s)-n):]
}
