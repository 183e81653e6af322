package e2e

import (
	"database/sql"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// TestOutboxes_OfTwoSchemasAreIndependent: one database holds an outbox in each of
// two schemas, found by the search_path of the address. Their relays have the same
// name and lead side by side, each with a lease and a cursor of its own.
func TestOutboxes_OfTwoSchemasAreIndependent(t *testing.T) {
	t.Parallel()
	db := harness.EmptyDatabase(t)
	var pipes []*pipe
	var relays []*lab.Program
	for _, schema := range []string{"orders", "billing"} {
		_, err := db.DB.Exec(`CREATE SCHEMA ` + schema)
		require.NoError(t, err)
		address, err := url.Parse(db.DSN)
		require.NoError(t, err)
		q := address.Query()
		q.Set("search_path", schema)
		address.RawQuery = q.Encode()
		own, err := sql.Open("postgres", address.String())
		require.NoError(t, err)
		defer own.Close()
		p := &pipe{db: &harness.Database{DSN: address.String(), DB: own}, brokers: harness.Brokers(t), topic: harness.Topic(t, 2), bin: lab.Build(t, "github.com/millrace-go/millrace/cmd/millrace")}
		code, _, stderr := p.millrace(t, "migrate", "up")
		require.Zero(t, code, stderr)
		pipes, relays = append(pipes, p), append(relays, p.relay(t, steady...))
	}
	for i, p := range pipes {
		p.fill(t, 5000, 0)
		p.awaitPending(t, 0, liveness)
		require.NotContains(t, relays[i].Stderr(), "error")
	}
	require.NotEqual(t, pipes[0].place().owner, pipes[1].place().owner)
	for i, p := range pipes {
		require.Zero(t, relays[i].Terminate(liveness), relays[i].Stderr())
		require.Zero(t, p.verify(t))
	}
}
