package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/lab"
)

// wokenReads finds that the relay has read the log because somebody woke it.
var wokenReads = regexp.MustCompile(`relay_reads_total\{[^}]*wake="(wake|notify)"[^}]*\} [1-9]`)

// TestListener_RelaysDeliverWithItAndWithout: under load, and then message by
// message with pauses, in which a relay with a listener is idle.
func TestListener_RelaysDeliverWithItAndWithout(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"listener": nil, "polling": {"--no-listen"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipe(t, 2)
			_, err := p.db.DB.Exec(`SELECT outbox_enable_doorbell()`) // a trigger notifies for writers in plain SQL
			require.NoError(t, err)
			port, err := lab.FreePort()
			require.NoError(t, err)
			relay, load := p.relay(t, append(slices.Concat(steady, args), "--http", fmt.Sprint("127.0.0.1:", port))...), p.load(t)
			p.awaitLeader(t)
			load.await(t, 5000)
			load.end()
			p.awaitPending(t, 0, liveness)
			var took []time.Duration
			woken := func() bool { return wokenReads.MatchString(page(t, port, "/metrics")) }
			for n, end := 0, time.Now().Add(liveness); n < 5 || args == nil && !woken() && time.Now().Before(end); n++ {
				<-time.After(500 * time.Millisecond) // long enough to be idle
				began := time.Now()
				_, err := p.db.DB.Exec(`SELECT outbox_append($1, 'single', 'x'::text, aggregate_version => $2)`, p.topic, n+1)
				require.NoError(t, err)
				p.awaitPending(t, 0, liveness)
				took = append(took, time.Since(began))
			}
			t.Logf("single messages were delivered within %s", took)
			require.Equal(t, args == nil, woken(), "a relay that listens is woken; one that does not, polls")
			require.Zero(t, relay.Terminate(liveness), relay.Stderr())
			require.Zero(t, p.verify(t))
		})
	}
}
