package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

// TestRefusal_RelayDoesNotRunOnAStandby: a server in recovery shows rows in
// another order than they were committed in, and keeps no cursor.
func TestRefusal_RelayDoesNotRunOnAStandby(t *testing.T) {
	t.Parallel()
	server := harness.PrivatePostgres(t, harness.PostgresConfig{})
	p := newPipeOn(t, server, nil, 1)
	p.fill(t, keys, 0)
	var dir string
	require.NoError(t, p.db.DB.QueryRow("SHOW data_directory").Scan(&dir))
	require.NoError(t, server.Shutdown(t.Context()))
	signal := filepath.Join(dir, "standby.signal")
	require.NoError(t, os.WriteFile(signal, nil, 0o644))
	require.NoError(t, server.Start(t.Context()))
	refused(t, p, "the server is a standby", "connect to the primary")

	require.NoError(t, server.Shutdown(t.Context()))
	require.NoError(t, os.Remove(signal))
	require.NoError(t, server.Start(t.Context())) // so that the database can be dropped
}

// TestRefusal_RelayDoesNotRunOnASequenceWithACache: writers would draw positions
// long before they use them.
func TestRefusal_RelayDoesNotRunOnASequenceWithACache(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 1)
	_, err := p.db.DB.Exec(`ALTER SEQUENCE outbox_position_seq CACHE 20`)
	require.NoError(t, err)
	refused(t, p, "CACHE 20", "ALTER SEQUENCE outbox_position_seq CACHE 1")
}

// refused demands that the relay ends by itself with a failure, having written
// nothing, and says why.
func refused(t *testing.T, p *pipe, says ...string) {
	t.Helper()
	relay := p.relay(t)
	require.Equal(t, 1, relay.Wait(liveness), "not 0, so that a supervisor sees it")
	for _, text := range says {
		require.Contains(t, relay.Stderr(), text)
	}
	require.Empty(t, relay.Stdout())
	require.Empty(t, harness.ReadTopic(t, p.brokers, p.topic))
}
