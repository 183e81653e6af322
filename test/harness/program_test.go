package harness_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

func TestProgram_TellsOutputAndExitCode(t *testing.T) {
	t.Parallel()
	p := harness.StartProgram(t, harness.ProgramConfig{
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
	p := harness.StartProgram(t, harness.ProgramConfig{Path: "sleep", Args: []string{"600"}})
	require.NoError(t, p.Pause())
	require.NoError(t, p.Resume())
	p.Kill()
	require.Equal(t, -1, p.Wait(time.Second))
	require.False(t, harness.Alive(p.PID()))
}

func TestBuild_GivesTheSameProgramToAllTests(t *testing.T) {
	t.Parallel()
	const pkg = "github.com/millrace-go/millrace/test/report"
	path := harness.Build(t, pkg)
	require.Equal(t, path, harness.Build(t, pkg))
	p := harness.StartProgram(t, harness.ProgramConfig{Path: path})
	require.Equal(t, 1, p.Wait(20*time.Second), "no test ran")
	require.Contains(t, p.Stdout(), "0 passed, 0 failed, 0 skipped")
}

func TestStart_EmbeddedDefaultsAreRealPostgresAndTwins(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s, err := harness.Start(t.Context(), harness.Options{}, &log)
	require.NoError(t, err)
	require.Equal(t, harness.Real, s.Postgres.Info().Kind)
	require.Equal(t, harness.Twin, s.Kafka.Info().Kind)
	require.Equal(t, harness.Twin, s.Redis.Info().Kind)
	require.Regexp(t, `^postgres \d.*\nkafka kfake .*\nredis miniredis .*\n$`, log.String())

	again, err := harness.Start(t.Context(), harness.Options{
		PostgresURL: s.Postgres.DSN(), KafkaBrokers: s.Kafka.Brokers(), RedisURL: s.Redis.URL(),
	}, &log)
	require.NoError(t, err)
	require.Equal(t, harness.External, again.Kafka.Info().Kind)
	require.ErrorIs(t, again.Postgres.Kill(), harness.ErrUnsupported)
	require.NoError(t, again.Stop(t.Context()))
	require.True(t, answers(s.Postgres.Addr()), "servers of others are left alone")
	require.NoError(t, s.Stop(t.Context()))
	require.False(t, answers(s.Postgres.Addr()))
}
