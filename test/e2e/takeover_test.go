package e2e

import (
	"testing"

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
	p.awaitPending(t, 90_000, liveness)
	require.NoError(t, leader.Pause()) // so that it does not come to the end before it is killed
	at := p.pending(t)
	require.Positive(t, at, "the kill came in the middle")
	standby := p.relay(t)
	leader.Kill()
	p.awaitPending(t, at*3/4, liveness)
	standby.Kill()
	last := p.relay(t)
	p.awaitPending(t, 0, liveness)
	require.Zero(t, last.Terminate(liveness))
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
		relay := p.relay(t, steady...)
		relay.AwaitOutput("relay leads", liveness)
		p.awaitPending(t, p.pending(t)-1000, liveness)
		require.Zero(t, relay.Terminate(liveness), relay.Stderr())
	}
	last := p.relay(t, steady...)
	last.AwaitOutput("relay leads", liveness)
	p.awaitPending(t, 0, liveness)
	require.Zero(t, last.Terminate(liveness))
	require.Zero(t, p.verify(t), "a graceful stop repeats nothing")
}
