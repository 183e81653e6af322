package main

import (
	"bytes"
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// outcome is what a finished command left behind.
type outcome struct {
	code        int
	out, stderr string
}

// run executes one command to its end, with an environment of its own.
func run(t *testing.T, env map[string]string, args ...string) outcome {
	t.Helper()
	return start(t, env, args...).wait(t)
}

// command is a command under way.
type command struct {
	out, stderr buffer
	cancel      context.CancelCauseFunc
	done        chan int
}

func start(t *testing.T, env map[string]string, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &command{cancel: cancel, done: make(chan int, 1)}
	go func() {
		c.done <- Run(ctx, args, Process{Out: &c.out, Err: &c.stderr, Getenv: func(k string) string { return env[k] }})
	}()
	t.Cleanup(func() { cancel(nil) })
	return c
}

func (c *command) wait(t *testing.T) outcome {
	t.Helper()
	select {
	case code := <-c.done:
		return outcome{code, c.out.String(), c.stderr.String()}
	case <-time.After(3 * time.Minute):
		require.Fail(t, "the command did not end", "stderr: %s", c.stderr.String())
		return outcome{}
	}
}

// signal does what the process does when it gets sig, and waits for the end.
func (c *command) signal(t *testing.T, sig syscall.Signal) outcome {
	t.Helper()
	c.cancel(Interrupted{sig})
	return c.wait(t)
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
