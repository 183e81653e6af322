package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// outage is how long a server is away.
const outage = 5 * time.Second

// recover demands, after the servers are back, that the relay delivers by itself
// what was written until then, while writing goes on, and then the rest; that
// nothing was parked for the outage; and that nothing is lost, reordered, or
// duplicated beyond a window for each of crashes.
func (p *pipe) recover(t *testing.T, relay *lab.Program, load *load, crashes int) {
	t.Helper()
	began := time.Now()
	p.db.DB.SetMaxIdleConns(0) // connections of before are of no use
	load.await(t, 2000)
	p.awaitPosition(t, p.tail(t))
	t.Logf("caught up %s after the servers were back, at %.0f rows/s written; %d writes failed",
		time.Since(began).Round(time.Millisecond), load.rate(), load.failed.Load())
	load.await(t, 2000)
	load.end()
	p.awaitPending(t, 0, liveness)
	require.Empty(t, column(t, p.db.DB, `SELECT reason FROM outbox_parked`), "an outage is no reason to park")
	require.Zero(t, relay.Terminate(liveness), relay.Stderr())
	duplicates := p.verify(t)
	t.Logf("%d duplicates, %d allowed", duplicates, crashes*window)
	require.LessOrEqual(t, duplicates, crashes*window)
}

// tail is the position of the last message.
func (p *pipe) tail(t *testing.T) (position int64) {
	t.Helper()
	require.NoError(t, p.db.DB.QueryRowContext(t.Context(), `SELECT coalesce(max(position), 0) FROM outbox`).Scan(&position))
	return position
}

// awaitPosition waits until the saved cursor has come to position. However fast
// others write meanwhile, a relay that makes progress comes to it.
func (p *pipe) awaitPosition(t *testing.T, position int64) {
	t.Helper()
	harness.Await(t, liveness, "the backlog is delivered", func(context.Context) error {
		if at := p.place().position; at < position {
			return fmt.Errorf("%d positions are left", position-at)
		}
		return nil
	})
}

// TestOutage_PostgresIsFrozen freezes Postgres under load for longer than the
// lease lasts: connections stay open and nothing answers.
func TestOutage_PostgresIsFrozen(t *testing.T) {
	t.Parallel()
	server := harness.PrivatePostgres(t, harness.PostgresConfig{})
	p := newPipeOn(t, server, nil, 4)
	relay, load := p.relay(t), p.load(t)
	p.awaitLeader(t)
	load.await(t, 3000)
	require.NoError(t, server.Pause())
	<-time.After(outage)
	require.NoError(t, server.Resume())
	p.recover(t, relay, load, 1)
}

// TestOutage_PostgresIsKilled kills Postgres under load and starts it again, with
// its crash recovery, twice.
func TestOutage_PostgresIsKilled(t *testing.T) {
	t.Parallel()
	server := harness.PrivatePostgres(t, harness.PostgresConfig{})
	p := newPipeOn(t, server, nil, 4)
	relay, load := p.relay(t), p.load(t)
	for range 2 {
		p.awaitLeader(t)
		load.await(t, 3000)
		require.NoError(t, server.Kill())
		<-time.After(outage / 2)
		require.NoError(t, server.Start(t.Context()))
	}
	p.recover(t, relay, load, 2)
}

// TestOutage_KafkaIsKilled kills the broker under load and starts it again: no
// attempts are used up, and no message is sent twice, as the relay finds out what
// was written.
func TestOutage_KafkaIsKilled(t *testing.T) {
	t.Parallel()
	broker := harness.PrivateKafka(t, harness.KafkaConfig{Real: true})
	p := newPipeOn(t, nil, broker, 4)
	relay, load := p.relay(t), p.load(t)
	p.awaitLeader(t)
	load.await(t, 3000)
	require.NoError(t, broker.Kill())
	<-time.After(outage)
	backlog := p.pending(t)
	require.Positive(t, backlog)
	require.NoError(t, broker.Start(t.Context()))
	t.Logf("%d rows wait", backlog)
	p.recover(t, relay, load, 1)
}

// TestOutage_WorksOffALargeBacklogWhileWritingGoesOn lets a large backlog grow
// while the broker is away. How fast it is worked off is logged, not judged: that
// is the machine's.
func TestOutage_WorksOffALargeBacklogWhileWritingGoesOn(t *testing.T) {
	t.Parallel()
	broker := harness.PrivateKafka(t, harness.KafkaConfig{Real: true})
	p := newPipeOn(t, nil, broker, 4)
	relay, load := p.relay(t), p.load(t)
	p.awaitLeader(t)
	load.await(t, 3000)
	require.NoError(t, broker.Kill())
	for i := range 3 {
		p.fill(t, 20_000, i)
	}
	require.NoError(t, broker.Start(t.Context()))
	p.awaitPosition(t, p.place().position+1)
	from, before, began := p.place().position, load.rows.Load(), time.Now()
	p.awaitPosition(t, p.tail(t))
	took := time.Since(began).Seconds()
	t.Logf("delivered %.0f rows/s for %.1f s, while %.0f rows/s were written; %.0f rows/s were written in the whole run",
		float64(p.place().position-from)/took, took, float64(load.rows.Load()-before)/took, load.rate())
	p.recover(t, relay, load, 1)
}
