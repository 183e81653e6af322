package lock_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program with a lock in Postgres links neither Redis, nor cron, nor Prometheus,
// and one that runs jobs links no Prometheus and no Redis.
func TestLinks_ALockBringsNothingThatItDoesNotUse(t *testing.T) {
	t.Parallel()
	const module = "github.com/millrace-go/millrace/adapters/schedule"
	for pkg, foreign := range map[string][]string{
		module + "/lock":           {"redis", "go-cron", "prometheus", "watermill"},
		module + "/lock/redislock": {"go-cron", "prometheus", "watermill"},
		module:                     {"redis", "prometheus", "watermill"},
	} {
		out, err := exec.Command("go", "list", "-deps", pkg).CombinedOutput()
		require.NoError(t, err, string(out))
		deps := strings.Fields(string(out))
		require.Contains(t, deps, "github.com/lib/pq", "the list is one of dependencies")
		for _, dep := range deps {
			for _, name := range foreign {
				require.NotContains(t, dep, name, "linked by %s", pkg)
			}
		}
	}
}
