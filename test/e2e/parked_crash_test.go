package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// badKey is the key whose versions 5 and 30 the broker does not take.
const badKey = "bad-1"

// parkedCrash is a pipe whose leading relay dies again and again over the parked
// messages of badKey, while somebody goes on writing to it and to other keys.
type parkedCrash struct {
	*pipe
	writers         *eventWriters
	leader, standby *lab.Program
	kills           int
}

// parkedCrashWindow bounds the duplicates of each kill.
const parkedCrashWindow = 1000

func newParkedCrash(t *testing.T) *parkedCrash {
	m := &parkedCrash{pipe: newPipe(t, 2)}
	m.limit(t, 20_000)
	m.leader = m.start(t)
	m.leader.AwaitOutput("relay leads", liveness)
	m.standby = m.start(t)
	m.writers = m.pipe.eventWriters(t)
	m.writers.start(eventWriter{name: "bad-", keys: 1, pause: 10 * time.Millisecond, large: []int{5, 30}})
	m.writers.start(eventWriter{name: "good-", keys: 10, pause: 10 * time.Millisecond})
	return m
}

func (m *parkedCrash) start(t *testing.T) *lab.Program {
	relay := m.relay(t, "--window-rows", strconv.Itoa(parkedCrashWindow))
	relay.AwaitOutput("relay starts", liveness)
	return relay
}

// kill kills the leader, waits for the standby to lead, and starts another one.
func (m *parkedCrash) kill(t *testing.T) {
	t.Helper()
	old := m.awaitLeader(t)
	m.leader, m.standby = m.inOrder(t, m.leader, m.standby)
	m.killed(t, old)
}

// killBetween kills the leader after a decision which it had no time to carry out:
// it is frozen meanwhile, and so is the standby.
func (m *parkedCrash) killBetween(t *testing.T, decision ...string) {
	t.Helper()
	old := m.awaitLeader(t)
	m.leader, m.standby = m.inOrder(t, m.leader, m.standby)
	require.NoError(t, m.leader.Pause())
	require.NoError(t, m.standby.Pause())
	before := m.states(t)
	m.decide(t, decision...)
	now := m.states(t)
	require.Zero(t, now["parked"])
	require.Equal(t, before["parked"], now["redrive"]+now["skip"], "nothing is carried out yet")
	require.NoError(t, m.standby.Resume())
	m.killed(t, old)
}

// killed kills the leader whose place was old, and waits for its successor.
func (m *parkedCrash) killed(t *testing.T, old place) {
	t.Helper()
	m.leader.Kill()
	m.kills++
	m.takeover(t, old, time.Now())
	m.leader, m.standby = m.standby, m.start(t)
}

// decide takes a decision on badKey.
func (m *parkedCrash) decide(t *testing.T, args ...string) {
	t.Helper()
	code, out, stderr := m.millrace(t, append([]string{"parked", args[0], "--yes"}, args[1:]...)...)
	require.Zero(t, code, out+stderr)
}

// states counts the messages that were ever parked, state by state.
func (m *parkedCrash) states(t *testing.T) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, s := range column(t, m.db.DB, `SELECT state FROM outbox_parked`) {
		n[s]++
	}
	return n
}

// state is that of badKey's message of a version, "" if it was never parked.
func (m *parkedCrash) state(t *testing.T, version int) string {
	t.Helper()
	states := column(t, m.db.DB, `SELECT state FROM outbox_parked JOIN outbox o USING (position) WHERE o.key = $1 AND aggregate_version = $2`, badKey, version)
	return slices.Concat(states, []string{""})[0]
}

func (m *parkedCrash) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	until(t, liveness, what, done)
	require.NoError(t, m.writers.err())
}

// TestParked_DecisionsSurviveTheRelaysDeath kills the leading relay while messages
// are being parked behind others of their key; between a decision and its being
// carried out, which the next relay then does; and right after it was carried out,
// before what was redriven is known to be delivered. What waits keeps its order,
// what was not skipped arrives.
func TestParked_DecisionsSurviveTheRelaysDeath(t *testing.T) {
	t.Parallel()
	m := newParkedCrash(t)
	m.await(t, "followers wait", func() bool { return m.states(t)["parked"] > 40 })
	m.kill(t)
	waiting := m.states(t)["parked"]
	m.await(t, "more followers wait", func() bool { return m.states(t)["parked"] > waiting+40 })

	// Redriven, though the topic still takes neither.
	m.killBetween(t, "redrive", "--key", badKey)
	m.await(t, "version 5 is parked again, and all others behind it", func() bool {
		return m.state(t, 5) == "parked" && m.states(t)["redrive"] == 0
	})
	require.Equal(t, []int64{1, 2, 3, 4}, m.versions(t)[badKey])

	// Version 5 is skipped; the others wait for version 30 now.
	m.killBetween(t, "skip", "--position", column(t, m.db.DB, `SELECT min(position)::text FROM outbox_parked`)[0])
	m.await(t, "version 30 is parked", func() bool {
		return m.state(t, 5) == "skipped" && m.state(t, 29) == "redriven" && m.state(t, 30) == "parked"
	})
	_, err := m.db.DB.Exec(`UPDATE outbox_parked SET attempts = 10 WHERE state = 'parked'`) // the relay itself looks again in an hour
	require.NoError(t, err)
	m.await(t, "version 29 arrives", func() bool { return slices.Contains(m.versions(t)[badKey], 29) })
	require.NotContains(t, m.versions(t)[badKey], int64(31))

	// The rest is redriven.
	m.limit(t, 200_000)
	<-time.After(1500 * time.Millisecond) // a relay remembers a limit for a second
	m.decide(t, "redrive", "--key", badKey)
	m.await(t, "it is carried out", func() bool { return m.state(t, 30) == "redriven" })
	m.kill(t)

	m.writers.end()
	m.awaitPending(t, 0, liveness)
	m.await(t, "nothing waits", func() bool { s := m.states(t); return s["parked"]+s["redrive"]+s["skip"] == 0 })
	require.Zero(t, m.leader.Terminate(liveness), m.leader.Stderr())
	require.Zero(t, m.standby.Terminate(liveness), m.standby.Stderr())
	m.judge(t)
}

// judge demands that all is there in order but for version 5 of badKey.
func (m *parkedCrash) judge(t *testing.T) {
	t.Helper()
	records := harness.ReadTopic(t, m.brokers, m.topic)
	harness.AssertOrder(t, records, func(r harness.Record) int64 { return number(t, r.Header("aggregate-version")) })
	want := column(t, m.db.DB, `SELECT event_id::text FROM outbox WHERE NOT (key = $1 AND aggregate_version = 5)`, badKey)
	duplicates := harness.AssertComplete(t, records, func(r harness.Record) string { return r.Header("event-id") }, want)
	t.Logf("%d events, %d duplicates after %d kills, %d allowed; parked: %s", len(want), duplicates, m.kills, m.kills*parkedCrashWindow, fmt.Sprint(m.states(t)))
	require.LessOrEqual(t, duplicates, m.kills*parkedCrashWindow)
	require.Equal(t, []string{"redrive", "skip", "redrive"}, column(t, m.db.DB, `SELECT action FROM outbox_audit WHERE actor <> 'relay' ORDER BY id`))
}
