package harness_test

import (
	"bufio"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/lab"
)

// manyPorts in each of two processes would meet without reservations.
const manyPorts = 500

func TestFreePort_IsGivenToOneProcessOnceWhileItLives(t *testing.T) {
	t.Parallel()
	other, _ := startClient(t, "ports", t.TempDir())
	given := map[int]bool{}
	lines := bufio.NewScanner(strings.NewReader(other.Stdout()))
	for lines.Scan() {
		var port int
		if n, _ := fmt.Sscanf(lines.Text(), "port %d", &port); n == 1 {
			require.False(t, given[port], port)
			given[port] = true
		}
	}
	require.Len(t, given, manyPorts)
	for range manyPorts {
		port, err := lab.FreePort()
		require.NoError(t, err)
		require.False(t, given[port], port)
		given[port] = true
	}
}
