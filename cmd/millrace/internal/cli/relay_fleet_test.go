package cli_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRelay_RefusesSettingsThatDoNotGoWithOutboxes(t *testing.T) {
	t.Parallel()
	const outboxes = "a=postgres://u:hush@h/a,b=postgres://u:hush@h/b"
	for says, args := range map[string][]string{
		"keep one of them":                                  {"--postgres", "postgres://h/d"},
		"goes with --postgres only":                         {"--listen-postgres", "postgres://h/d"},
		"must be at least the longest LeaseTTL (5s), is 1s": {"--hand-over-after", "1s", "--lease", "5s"},
	} {
		got := run(t, nil, append([]string{"relay", "--kafka", "127.0.0.1:1", "--outboxes", outboxes}, args...)...)
		require.Equal(t, 2, got.code, got.stderr)
		require.Contains(t, got.stderr, says)
		require.NotContains(t, got.stderr, "hush")
	}
}
