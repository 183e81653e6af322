package harness_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/internal/proc"
	"github.com/millrace-go/millrace/test/lab"
)

type served struct {
	addr, dir string
	pid       int
}

// startClient starts this binary as a test process of another run.
func startClient(t *testing.T, what, runDir string, env ...string) (*lab.Program, served) {
	t.Helper()
	p := lab.StartProgram(t, lab.ProgramConfig{
		Path: os.Args[0],
		Env:  append(env, envClient+"="+what, harness.EnvRunDir+"="+runDir, harness.EnvRedis+"="),
	})
	p.AwaitOutput("serving ", 2*time.Minute)
	var s served
	_, line, _ := strings.Cut(p.Stdout(), "serving ")
	_, err := fmt.Sscan(line, &s.addr, &s.pid, &s.dir)
	require.NoError(t, err)
	return p, s
}

func answers(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func awaitGone(t *testing.T, s served) {
	t.Helper()
	harness.Await(t, 2*time.Minute, "the server and its data are gone", func(context.Context) error {
		if answers(s.addr) {
			return errors.New("it still answers at " + s.addr)
		}
		if s.pid != 0 && proc.Alive(s.pid) {
			return fmt.Errorf("process %d lives", s.pid)
		}
		if _, err := os.Stat(s.dir); err == nil {
			return errors.New(s.dir + " is still there")
		}
		return nil
	})
}

func TestShared_TwoProcessesUseOneServerThatEndsAfterThem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, a := startClient(t, "shared-redis", dir)
	second, b := startClient(t, "shared-redis", dir)
	require.Equal(t, a.addr, b.addr)
	listed, err := os.ReadFile(filepath.Join(dir, "servers"))
	require.NoError(t, err)
	require.Contains(t, string(listed), "redis ")

	first.Kill()
	require.Never(t, func() bool { return !answers(a.addr) }, 7*time.Second, 200*time.Millisecond,
		"the server ended although a process uses it")
	second.Kill()
	awaitGone(t, a)
}

func TestShared_ServerOutlivesItsFirstUserOnlyForTheNext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := harness.EnvIdleTimeout + "=10m"
	first, a := startClient(t, "shared-redis", dir, long)
	first.Kill()
	second, b := startClient(t, "shared-redis", dir)
	require.Equal(t, a.addr, b.addr, "the next process of the run finds the server still there")
	second.Kill()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "over"), nil, 0o600))
	harness.Await(t, 2*time.Minute, "the server ends with the run, without waiting longer", func(context.Context) error {
		if answers(a.addr) {
			return errors.New("it still answers")
		}
		return nil
	})
	_, c := startClient(t, "shared-redis", t.TempDir())
	require.NotEqual(t, a.addr, c.addr, "another run has another server")
}

func TestPrivate_ServersEndWithAProcessThatIsKilled(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"private-postgres", "private-kafka"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p, s := startClient(t, what, t.TempDir())
			require.True(t, answers(s.addr))
			require.DirExists(t, s.dir)
			p.Signal("KILL")
			awaitGone(t, s)
		})
	}
}

func TestPrivate_PausedServerEndsWithAProcessThatIsKilled(t *testing.T) {
	t.Parallel()
	p, s := startClient(t, "private-postgres", t.TempDir())
	require.NoError(t, proc.FreezeTree(s.pid))
	p.Signal("KILL")
	awaitGone(t, s)
}
