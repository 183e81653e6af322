package config_test

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

func TestLoad_AFormerNameIsAnsweredWithTheNewOne(t *testing.T) {
	t.Parallel()
	use := config.Use{Optional: []config.Name{config.NoListen, config.HandOverAfter}}
	for former, now := range map[string]string{"no-doorbell": "no-listen", "settle": "hand-over-after"} {
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		config.AddFlags(fs, use)
		require.NotContains(t, fs.FlagUsages(), former)
		require.ErrorContains(t, fs.Parse([]string{"--" + former}), "is now called --"+now)
		require.ErrorContains(t, fs.Parse([]string{"--" + former + "=2s"}), "is now called --"+now)
	}
	env := map[string]string{"MILLRACE_NO_DOORBELL": "true", "MILLRACE_SETTLE": "2s"}
	file := write(t, "millrace.yaml", "no-doorbell: true\nsettle: 2s\n")
	_, err := config.Load(pflag.NewFlagSet("test", pflag.ContinueOnError), func(k string) string { return env[k] }, file, use)
	require.ErrorContains(t, err, "MILLRACE_NO_DOORBELL is now called MILLRACE_NO_LISTEN")
	require.ErrorContains(t, err, "MILLRACE_SETTLE is now called MILLRACE_HAND_OVER_AFTER")
	require.ErrorContains(t, err, `key "no-doorbell" is now called "no-listen"`)
	require.ErrorContains(t, err, `key "settle" is now called "hand-over-after"`)
}
