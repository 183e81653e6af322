package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// window is the relay's default WindowRows: the bound on duplicates per crash.
const window = 10_000

// TestTakeover_KilledLeaderLosesNothing kills the leading relay in the middle of
// 100,000 rows, twice; the standby goes on.
func TestTakeover_KilledLeaderLosesNothing(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 4)
	p.fill(t, 100_000, 0)
	leader := p.relay(t)
	p.awaitPending(t, 90_000, 2*time.Minute)
	standby := p.relay(t)
	leader.Kill()
	at := p.pending(t)
	require.Positive(t, at, "the kill came in the middle")
	p.awaitPending(t, at-20_000, 2*time.Minute)
	standby.Kill()
	last := p.relay(t)
	p.awaitPending(t, 0, 2*time.Minute)
	require.Zero(t, last.Terminate(2*time.Minute))
	duplicates := p.verify(t)
	t.Logf("%d duplicates after two kills, %d allowed", duplicates, 2*window)
	require.LessOrEqual(t, duplicates, 2*window)
}

// TestTakeover_GracefulStopsLeaveNoDuplicates stops the relay with SIGTERM twenty
// times while it is at work.
func TestTakeover_GracefulStopsLeaveNoDuplicates(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 4)
	const stops, rows = 20, 5_000
	for i := range stops {
		p.fill(t, rows, i)
		relay := p.relay(t)
		relay.AwaitOutput("relay leads", 2*time.Minute)
		p.awaitPending(t, p.pending(t)-1000, 2*time.Minute)
		require.Zero(t, relay.Terminate(2*time.Minute), relay.Stderr())
	}
	last := p.relay(t)
	last.AwaitOutput("relay leads", 2*time.Minute)
	p.awaitPending(t, 0, 2*time.Minute)
	require.Zero(t, last.Terminate(2*time.Minute))
	require.Zero(t, p.verify(t), "a graceful stop repeats nothing")
}
