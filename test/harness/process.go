package harness

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

// process is the backend of a server that runs as a program.
type process struct {
	command func() *exec.Cmd                // a new command for each start
	ready   func(ctx context.Context) error // nil once it answers
	account *account                        // who runs it
	log     string                          // file for its output
	ask     string                          // signal for a clean end
	abort   string                          // signal for an end without us
	crashed func()                          // tidies up after kill, may be nil

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// startLimit bounds the start of one server, on a machine busy with other things.
const startLimit = 90 * time.Second

func (p *process) pid() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

func (p *process) start(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	cmd := p.command()
	cmd.Stdout, cmd.Stderr = log, log
	detach(cmd, p.account)
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
	if err := watch(cmd.Process.Pid, p.abort); err != nil {
		return errors.Join(err, p.kill())
	}
	if err := p.await(ctx); err != nil {
		return errors.Join(err, p.kill())
	}
	return nil
}

// await polls until the process answers, and gives up when it ends.
func (p *process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended (%s), saying:\n%s", p.cmd.ProcessState, tail(p.log))
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w; it said:\n%s", err, tail(p.log))
		case <-tick.C:
		}
	}
}

func (p *process) stop(ctx context.Context) error {
	if p.cmd == nil {
		return nil
	}
	pid := p.pid()
	_ = thawTree(pid)
	_ = ask(pid, p.ask)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	select {
	case <-p.done:
		p.forget()
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("killed, as it did not end: %w", ctx.Err()), p.kill())
	}
}

func (p *process) kill() error {
	if p.cmd == nil {
		return nil
	}
	_ = killTree(p.pid()) // it may have ended by itself
	<-p.done
	p.forget()
	if p.crashed != nil {
		p.crashed()
	}
	return nil
}

func (p *process) forget() {
	unwatch(p.pid())
	p.cmd = nil
}

func (p *process) pause() error {
	if p.cmd == nil {
		return os.ErrProcessDone
	}
	return freezeTree(p.pid())
}

func (p *process) resume() error {
	if p.cmd == nil {
		return os.ErrProcessDone
	}
	return thawTree(p.pid())
}

// run runs a program to its end as account a.
func run(ctx context.Context, a *account, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Dir = os.TempDir()
	detach(cmd, a)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, strings.TrimSpace(out.String()))
	}
	return nil
}

// tail returns the last lines of a log.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > 4000 {
		b = b[len(b)-4000:]
	}
	return strings.TrimSpace(string(b))
}
