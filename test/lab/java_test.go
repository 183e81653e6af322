package lab_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/lab"
)

func TestJava_ProgramIsCompiledWithItsLibrariesAndAnswers(t *testing.T) {
	t.Parallel()
	p := lab.BuildJava(t, "testdata/java").Start(t, "Echo", "grüß")
	p.AwaitOutput("a library answers", 2*time.Minute)
	p.Say("one\n")
	p.AwaitOutput("grüß one\n", 2*time.Minute)
	require.NoError(t, p.Pause())
	p.Say("two\n")
	require.Equal(t, "grüß one\n", p.Stdout())
	require.NoError(t, p.Resume())
	p.AwaitOutput("grüß two\n", 2*time.Minute)
	p.CloseInput()
	require.Equal(t, 7, p.Wait(2*time.Minute))

	again := lab.BuildJava(t, "testdata/java").Start(t, "Echo", "x")
	again.Kill()
	require.Equal(t, -1, again.Wait(2*time.Minute))
}
