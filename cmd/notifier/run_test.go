package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun_ReportsAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	env := map[string]string{"REDIS_URL": "redis://localhost:6379/0"}
	code := Run(t.Context(), []string{"--frobnicate", "--log-level", "loud", "--addr", "nowhere", "--repository", "gorm", "--session-life", "long", "extra"},
		Process{Err: &stderr, Getenv: func(name string) string { return env[name] }})
	require.Equal(t, 2, code)
	for _, part := range []string{"frobnicate", `"loud"`, "addr:", `"extra"`, "postgres:", "kafka:", "repository:", "give a duration such as 12h", "--help"} {
		require.Contains(t, stderr.String(), part)
	}
	require.NotContains(t, stderr.String(), "redis:")
}

func TestRun_HelpShowsNoSecrets(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	code := Run(t.Context(), []string{"-h"}, Process{Err: &stderr, Getenv: func(string) string { return "postgres://user:hunter2@host/db" }})
	require.Equal(t, 0, code)
	require.Contains(t, stderr.String(), "-postgres")
	require.NotContains(t, stderr.String(), "hunter2")
	require.NotContains(t, stderr.String(), "(default )")
}
