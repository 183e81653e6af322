package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/lab"
)

// pair starts a relay and, once it leads, a standby.
func (p *pipe) pair(t *testing.T, args ...string) (leader, standby *lab.Program) {
	leader = p.relay(t, args...)
	leader.AwaitOutput("relay leads", liveness)
	standby = p.relay(t, args...)
	standby.AwaitOutput("relay starts", liveness)
	return leader, standby
}

// TestStandby_TakesOverFromAFrozenLeader freezes the leading relay under load, as
// a stopped container or a long pause of a virtual machine does, and thaws it once
// another one leads. The zombie finds itself replaced and changes nothing.
func TestStandby_TakesOverFromAFrozenLeader(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 4)
	zombie, standby := p.pair(t)
	load := p.load(t)
	unmoved := p.watch(t)
	load.await(t, 5000)

	old := p.awaitLeader(t)
	began := time.Now()
	require.NoError(t, zombie.Pause())
	took := p.takeover(t, old, began)
	t.Logf("frozen leader replaced after %s at %.0f rows/s", took.Round(time.Millisecond), load.rate())
	leads := p.place()
	load.await(t, 5000)

	require.NoError(t, zombie.Resume())
	zombie.AwaitOutput("lost the lead", liveness)
	require.Contains(t, zombie.Stderr(), "lease lost")
	load.await(t, 5000)
	if now := p.place(); now.epoch == leads.epoch { // or the lead was lost once more, on a very busy machine
		require.Equal(t, leads.owner, now.owner, "the zombie stands by")
	} else {
		require.Greater(t, now.epoch, leads.epoch)
	}

	load.end()
	p.awaitPending(t, 0, liveness)
	require.Zero(t, standby.Terminate(liveness), standby.Stderr())
	require.Eventually(t, func() bool { return strings.Count(zombie.Stderr(), "relay leads") == 2 }, liveness, 10*time.Millisecond,
		"it is a standby like any other")
	unmoved()
	require.Zero(t, zombie.Terminate(liveness), zombie.Stderr())
	duplicates := p.verify(t)
	t.Logf("%d duplicates, %d allowed", duplicates, window)
	require.LessOrEqual(t, duplicates, window)
}

// TestStandby_TakesOverFromAKilledLeader kills the leading relay under load, three
// times, with a standby waiting.
func TestStandby_TakesOverFromAKilledLeader(t *testing.T) {
	t.Parallel()
	const kills = 3
	p := newPipe(t, 4)
	leader, standby := p.pair(t)
	load := p.load(t)
	unmoved := p.watch(t)
	for range kills {
		load.await(t, 3000)
		old := p.awaitLeader(t)
		began := time.Now()
		leader.Kill()
		took := p.takeover(t, old, began)
		t.Logf("killed leader replaced after %s", took.Round(time.Millisecond))
		leader, standby = standby, p.relay(t)
		standby.AwaitOutput("relay starts", liveness)
	}
	load.end()
	p.awaitPending(t, 0, liveness)
	unmoved()
	require.Zero(t, standby.Terminate(liveness), standby.Stderr())
	require.Zero(t, leader.Terminate(liveness), leader.Stderr())
	duplicates := p.verify(t)
	t.Logf("%d duplicates after %d kills, %d allowed", duplicates, kills, kills*window)
	require.LessOrEqual(t, duplicates, kills*window)
}

// TestStandby_IsHandedTheLeadAtOnce rolls the relays under load, as a deployment
// does: nothing waits for a lease to run out, which here would take longer than
// the test does, and nothing is sent twice.
func TestStandby_IsHandedTheLeadAtOnce(t *testing.T) {
	t.Parallel()
	const rolls = 4
	p := newPipe(t, 4)
	leader, standby := p.pair(t, steady...)
	load := p.load(t)
	for range rolls {
		load.await(t, 3000)
		old := p.awaitLeader(t)
		leader.Signal("TERM")
		began := time.Now()
		took := p.takeover(t, old, began)
		t.Logf("lead handed over after %s", took.Round(time.Millisecond))
		require.Zero(t, leader.Wait(liveness), leader.Stderr())
		leader, standby = standby, p.relay(t, steady...)
		standby.AwaitOutput("relay starts", liveness)
	}
	load.end()
	p.awaitPending(t, 0, liveness)
	require.Zero(t, standby.Terminate(liveness), standby.Stderr())
	require.Zero(t, leader.Terminate(liveness), leader.Stderr())
	require.Zero(t, p.verify(t), "a graceful stop repeats nothing")
}
