package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDoorbell_RelaysDeliverWithItAndWithout: under load, and then message by
// message with pauses, in which a relay with a doorbell sleeps.
func TestDoorbell_RelaysDeliverWithItAndWithout(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"doorbell": nil, "polling": {"--no-doorbell"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipe(t, 2)
			_, err := p.db.DB.Exec(`SELECT outbox_enable_doorbell()`) // plain SQL writers ring by a trigger
			require.NoError(t, err)
			relay, load := p.relay(t, args...), p.load(t)
			p.awaitLeader(t)
			load.await(t, 5000)
			load.end()
			p.awaitPending(t, 0, 2*time.Minute)
			var took []time.Duration
			for n := range 5 {
				<-time.After(500 * time.Millisecond) // long enough to fall asleep
				began := time.Now()
				_, err := p.db.DB.Exec(`SELECT outbox_append($1, 'single', 'x'::text, aggregate_version => $2)`, p.topic, n+1)
				require.NoError(t, err)
				p.awaitPending(t, 0, 2*time.Minute)
				took = append(took, time.Since(began))
			}
			t.Logf("single messages were carried within %s", took)
			slices.Sort(took)
			require.Less(t, took[len(took)/2], 2500*time.Millisecond, "a relay that nobody wakes sleeps for 3 s")
			require.Zero(t, relay.Terminate(2*time.Minute), relay.Stderr())
			require.Zero(t, p.verify(t))
		})
	}
}
