package lab_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/internal/proc"
	"github.com/millrace-go/millrace/test/lab"
)

func TestProgram_TellsOutputAndExitCode(t *testing.T) {
	t.Parallel()
	p := lab.StartProgram(t, lab.ProgramConfig{
		Path: "/bin/sh", Env: []string{"WORD=hello"}, Stdin: "line\n",
		Args: []string{"-c", `read l; echo "$WORD $l"; echo problem >&2; trap 'exit 7' TERM; while :; do sleep 0.05; done`},
	})
	p.AwaitOutput("hello line", 2*time.Minute)
	p.AwaitOutput("problem", 2*time.Minute)
	require.Equal(t, "hello line\n", p.Stdout())
	require.Equal(t, "problem\n", p.Stderr())
	require.Equal(t, 7, p.Terminate(2*time.Minute))
}

func TestProgram_KillLeavesNoExitCode(t *testing.T) {
	t.Parallel()
	p := lab.StartProgram(t, lab.ProgramConfig{Path: "sleep", Args: []string{"600"}})
	require.NoError(t, p.Pause())
	require.NoError(t, p.Resume())
	p.Kill()
	require.Equal(t, -1, p.Wait(2*time.Minute))
	require.False(t, proc.Alive(p.PID()))
}

func TestBuild_GivesTheSameProgramToAllTests(t *testing.T) {
	t.Parallel()
	const pkg = "github.com/millrace-go/millrace/test/report"
	path := lab.Build(t, pkg)
	require.Equal(t, path, lab.Build(t, pkg))
	p := lab.StartProgram(t, lab.ProgramConfig{Path: path})
	require.Equal(t, 1, p.Wait(2*time.Minute), "no test ran")
	require.Contains(t, p.Stdout(), "0 passed, 0 failed, 0 skipped")
}
