package telemetry_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program that wants log lines with trace ids, or the metrics of a relay, links
// no driver of a server: the metrics of each part have a package of their own.
func TestLinks_TelemetryBringsNoDriver(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "github.com/millrace-go/millrace/adapters/telemetry").CombinedOutput()
	require.NoError(t, err, string(out))
	deps := strings.Fields(string(out))
	require.Contains(t, deps, "github.com/prometheus/client_golang/prometheus", "the list is one of dependencies")
	for _, dep := range deps {
		for _, name := range []string{"go-redis", "lib/pq", "sarama", "go-cron"} {
			require.NotContains(t, dep, name)
		}
	}
}
