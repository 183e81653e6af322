package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// retained is a log that two relays deliver, each to a cluster of its own, and
// that forgets what both have delivered a second after it was written.
type retained struct {
	*pipe          // the relay of the default name, pipe.relay, and its cluster
	mirrored *pipe // the same log, the cluster of the relay "mirror"
	writers  *eventWriters
	checker  *retentionChecker
}

// retainedWindow bounds the duplicates of each crash.
const retainedWindow = 2000

func newRetained(t *testing.T) *retained {
	mirror := harness.PrivateKafka(t, harness.KafkaConfig{Real: true})
	r := &retained{pipe: newPipe(t, 4)}
	r.mirrored = &pipe{db: r.db, bin: r.bin, topic: r.topic, brokers: mirror.Brokers()}
	require.NoError(t, harness.CreateTopic(t.Context(), mirror.Brokers(), r.topic, 4))
	r.limit(t, 20_000)
	r.smallPartitions(t)
	r.writers, r.checker = r.pipe.eventWriters(t), r.pipe.retentionChecker(t)
	return r
}

func (r *retained) start(t *testing.T, name string) *lab.Program {
	p := r.pipe
	if name == "mirror" {
		p = r.mirrored
	}
	relay := p.relay(t, "--relay-name", name, "--retention", "1s", "--window-rows", fmt.Sprint(retainedWindow))
	relay.AwaitOutput("relay starts", liveness)
	return relay
}

// park commits a message that the first cluster does not take, and one behind it,
// and returns its position once both are parked.
func (r *retained) park(t *testing.T, key string) int64 {
	t.Helper()
	events, err := insert(r.db.DB, `
		INSERT INTO outbox (topic, key, aggregate_version, payload)
		SELECT $1, $2, n, convert_to(repeat('x', CASE n WHEN 2 THEN 100000 ELSE 100 END), 'UTF8') FROM generate_series(1, 3) n
		RETURNING event_id::text, position`, r.topic, key)
	require.NoError(t, err)
	r.writers.add(events)
	until(t, liveness, "two are parked", func() bool {
		return len(column(t, r.db.DB, `SELECT reason FROM outbox_parked WHERE key = $1 AND state = 'parked'`, key)) == 2
	})
	return events[1].position
}

// keepsParked demands that the log still holds the culprits at these positions.
func (r *retained) keepsParked(t *testing.T, positions ...int64) {
	t.Helper()
	for _, at := range positions {
		var bytes int
		require.NoError(t, r.db.DB.QueryRow(`SELECT length(payload) FROM outbox WHERE position = $1`, at).Scan(&bytes), "a parked message was dropped")
		require.Equal(t, 100_000, bytes)
	}
}

// TestRetention_DropsOnlyWhatEveryRelayHasDelivered keeps the log so short that it
// is dropped behind the relays' heels, under writers of several kinds. The leader
// is killed, its successor frozen and thawed; a second relay, to another cluster,
// is killed and stays away for a time; messages are parked and redriven. Readers
// of both clusters must find every committed event, in the order of its key.
func TestRetention_DropsOnlyWhatEveryRelayHasDelivered(t *testing.T) {
	t.Parallel()
	r := newRetained(t)
	leader := r.start(t, "relay")
	leader.AwaitOutput("relay leads", liveness)
	standby, mirror := r.start(t, "relay"), r.start(t, "mirror")
	mirror.AwaitOutput("relay leads", liveness)
	unmoved := r.watch(t)
	early := r.park(t, "early")
	for i := range 3 {
		r.writers.start(eventWriter{name: fmt.Sprintf("short-%d-", i), keys: 20, pause: 100 * time.Millisecond, rollbackEvery: 7 * i})
	}

	// What a leader drops by itself, at its start and each minute.
	r.writers.await(t, 6*leaf)
	r.settled(t)
	old := r.awaitLeader(t)
	leader, standby = r.inOrder(t, leader, standby)
	leader.Kill()
	r.takeover(t, old, time.Now())
	r.checker.awaitDropped(t, 3)
	leader, standby = standby, r.start(t, "relay")

	// From now on somebody drops all the time, beside long transactions.
	r.writers.start(eventWriter{name: "long-", keys: 20, pause: 200 * time.Millisecond, hold: 150 * time.Millisecond, rollbackEvery: 3})
	r.checker.drops.Store(true)
	r.checker.awaitDropped(t, 10)
	late := r.park(t, "late")
	r.keepsParked(t, early, late)

	// The mirror is killed and stays away; meanwhile the leader is frozen.
	mirror.Kill()
	old = r.awaitLeader(t)
	leader, standby = r.inOrder(t, leader, standby)
	require.NoError(t, leader.Pause())
	r.takeover(t, old, time.Now())
	r.writers.await(t, 15*leaf)
	require.NoError(t, leader.Resume())
	leader.AwaitOutput("lost the lead", liveness)
	r.settled(t)
	m := r.delivered(t, "mirror") // by now, as its last save may have outlived it
	r.holds(t, r.writers.beyond(m), "the mirror is away")
	require.Contains(t, r.kept(t, m+1), "relay mirror has delivered up to")

	mirror = r.start(t, "mirror")
	r.checker.awaitDropped(t, 15)
	r.keepsParked(t, early, late)
	require.Equal(t, "it holds parked messages", r.kept(t, early))

	r.redrive(t)
	r.checker.await(t, 20)
	r.writers.end()
	require.NoError(t, r.writers.err())
	r.finish(t, leader, standby, mirror)
	unmoved()
	r.judge(t)
}

// settled waits until what is written by now is delivered by the first relay, is
// older than the retention, and the checker has seen it so several times.
func (r *retained) settled(t *testing.T) {
	t.Helper()
	var tail int64
	require.NoError(t, r.db.DB.QueryRow(`SELECT max(position) FROM outbox`).Scan(&tail))
	until(t, liveness, "it is delivered", func() bool { return r.delivered(t, "relay") >= tail })
	until(t, liveness, "it is old", func() bool {
		return len(column(t, r.db.DB, `SELECT 1 FROM outbox WHERE position <= $1 AND created_at > clock_timestamp() - interval '1.2 seconds' LIMIT 1`, tail)) == 0
	})
	r.checker.await(t, 10)
}

// redrive raises the limit of the first cluster and has all that is parked sent.
func (r *retained) redrive(t *testing.T) {
	t.Helper()
	_, err := r.db.DB.Exec(`UPDATE outbox_parked SET attempts = 10`) // the relay itself looks again in an hour
	require.NoError(t, err)
	r.limit(t, 200_000)
	code, out, stderr := r.millrace(t, "parked", "redrive", "--topic", r.topic, "--yes")
	require.Zero(t, code, out+stderr)
	until(t, liveness, "all is redriven", func() bool {
		return len(column(t, r.db.DB, `SELECT state FROM outbox_parked WHERE state <> 'redriven'`)) == 0
	})
}

// finish waits until both relays have delivered everything, stops them, and
// demands that the log then keeps nothing but what it may.
func (r *retained) finish(t *testing.T, relays ...*lab.Program) {
	t.Helper()
	var end int64
	for _, w := range r.writers.all() {
		end = max(end, w.position)
	}
	harness.Await(t, liveness, "both relays have delivered everything", func(context.Context) error {
		if a, b := r.delivered(t, "relay"), r.delivered(t, "mirror"); a < end || b < end {
			return fmt.Errorf("%d and %d of %d", a, b, end)
		}
		return nil
	})
	r.checker.end()
	for _, relay := range relays {
		require.Zero(t, relay.Terminate(liveness), relay.Stderr())
	}
	harness.Await(t, liveness, "nothing more is to be dropped", func(context.Context) error {
		code, out, stderr := r.millrace(t, "partitions", "drop", "--retention", "1s", "--yes")
		require.Zero(t, code, stderr)
		left := column(t, r.db.DB, `SELECT position FROM outbox WHERE created_at > clock_timestamp() - interval '1 second' LIMIT 1`)
		if len(left) > 0 || !strings.HasPrefix(out, "dropped nothing") {
			return fmt.Errorf("%d rows are young; %s", len(left), out)
		}
		return nil
	})
	upto := min(r.delivered(t, "relay"), r.delivered(t, "mirror"))
	require.Empty(t, column(t, r.db.DB, `SELECT name FROM outbox_partitions WHERE hi <= $1`, upto+1), "both have delivered these to their end")
	require.Empty(t, column(t, r.db.DB, `SELECT position FROM outbox_default LIMIT 1`))
	require.Empty(t, column(t, r.db.DB, `SELECT position FROM outbox WHERE position <= $1`, (upto+1)/leaf*leaf-1))
}

// judge reads both clusters: each has every committed event, in the order of its
// key, and no more duplicates than its crashes allow.
func (r *retained) judge(t *testing.T) {
	t.Helper()
	dropped := r.checker.dropped(t)
	t.Logf("%d events committed, %d partitions dropped, gave up %d times for open transactions, slowest write %s",
		len(r.writers.all()), len(dropped), r.checker.refused, r.writers.slowest.Round(time.Millisecond))
	require.Greater(t, len(dropped), 30)
	for _, side := range []struct {
		*pipe
		name    string
		crashes int
	}{{r.pipe, "relay", 2}, {r.mirrored, "mirror", 1}} {
		records := harness.ReadTopic(t, side.brokers, side.topic)
		harness.AssertOrder(t, records, func(k harness.Record) int64 { return number(t, k.Header("aggregate-version")) })
		duplicates := harness.AssertComplete(t, records, func(k harness.Record) string { return k.Header("event-id") }, r.writers.beyond(0))
		t.Logf("%s: %d records, %d duplicates, %d allowed", side.name, len(records), duplicates, side.crashes*retainedWindow)
		require.LessOrEqual(t, duplicates, side.crashes*retainedWindow)
	}
}

// all lists what was committed.
func (s *eventWriters) all() []written {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}
