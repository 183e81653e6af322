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

// recover demands, after the servers are back, that the relay catches up by
// itself while writing goes on, that nothing was parked for the outage, and that
// nothing is lost, reordered, or duplicated beyond a window for each of crashes.
func (p *pipe) recover(t *testing.T, relay *lab.Program, load *load, crashes int) {
	t.Helper()
	began := time.Now()
	p.db.DB.SetMaxIdleConns(0) // connections of before are of no use
	harness.Await(t, 3*time.Minute, "the backlog is gone", p.caughtUp)
	t.Logf("caught up %s after the servers were back, at %.0f rows/s written; %d writes failed",
		time.Since(began).Round(time.Millisecond), load.rate(), load.failed.Load())
	load.await(t, 2000)
	load.end()
	p.awaitPending(t, 0, 2*time.Minute)
	require.Empty(t, column(t, p.db.DB, `SELECT reason FROM outbox_parked`), "an outage is no reason to park")
	require.Zero(t, relay.Terminate(2*time.Minute), relay.Stderr())
	duplicates := p.verify(t)
	t.Logf("%d duplicates, %d allowed", duplicates, crashes*window)
	require.LessOrEqual(t, duplicates, crashes*window)
}

// caughtUp says that little more is pending than what is written meanwhile.
func (p *pipe) caughtUp(ctx context.Context) error {
	var n int
	err := p.db.DB.QueryRowContext(ctx,
		`SELECT count(*) FROM outbox WHERE position > (SELECT max(position) FROM outbox_cursor)`).Scan(&n)
	if err == nil && n > 500 {
		err = fmt.Errorf("%d rows are pending", n)
	}
	return err
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

// TestOutage_CatchesUpManyTimesFasterThanIsWritten lets a large backlog grow while
// the broker is away, and measures how fast it melts while writing goes on. The
// figures are told, not judged: they are the machine's.
func TestOutage_CatchesUpManyTimesFasterThanIsWritten(t *testing.T) {
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
	stuck := p.place().position
	require.Eventually(t, func() bool { return p.place().position > stuck }, 2*time.Minute, time.Millisecond)
	from, before, began := p.place().position, load.rows.Load(), time.Now()
	harness.Await(t, 3*time.Minute, "the backlog is gone", p.caughtUp)
	took := time.Since(began).Seconds()
	melted, written := float64(p.place().position-from)/took, float64(load.rows.Load()-before)/took
	t.Logf("caught up with %.0f rows/s over %.1f s: %.0f times the %.0f rows/s written meanwhile, %.0f times the %.0f rows/s of the whole run",
		melted, took, melted/written, written, melted/load.rate(), load.rate())
	p.recover(t, relay, load, 1)
}
