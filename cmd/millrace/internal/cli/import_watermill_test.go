package cli_test

import (
	"database/sql"
	"encoding/json"
	"syscall"
	"testing"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

func TestImportWatermill_LooksThenMovesThenFollowsThenSwitches(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	env := map[string]string{"DATABASE_URL": db.DSN}
	stockForwarder(t, db.DB)
	base := []string{"import-watermill", "--topic", "fwd", "--key", "partition_key"}
	outboxRows := func() (n int) {
		require.NoError(t, db.DB.QueryRow(`SELECT count(*) FROM outbox WHERE topic = 'order.v1' AND key = 'a'`).Scan(&n))
		return n
	}

	forwardOrder(t, db.DB, "partition_key")
	report := func(args ...string) (r struct {
		Ready, Moved int64
		Dry          bool `json:"dry_run"`
		Switched     bool
	}) {
		got := run(t, env, append(append(base, "--json"), args...)...)
		require.Zero(t, got.code, got.stderr)
		require.NoError(t, json.Unmarshal([]byte(got.out), &r))
		return r
	}
	require.Eventually(t, func() bool { r := report(); return r.Dry && r.Ready == 1 }, 2*time.Minute, 10*time.Millisecond)
	require.Zero(t, outboxRows(), "looking changes nothing")
	require.Eventually(t, func() bool { return report("--yes").Moved == 1 }, 2*time.Minute, 10*time.Millisecond) // it may wait for other databases
	require.Equal(t, 1, outboxRows())

	following := start(t, env, append(base, "--follow", "--yes")...)
	following.says(t, "following")
	forwardOrder(t, db.DB, "partition_key")
	require.Eventually(t, func() bool { return outboxRows() == 2 }, 2*time.Minute, 10*time.Millisecond)
	stopped := following.signal(t, syscall.SIGTERM)
	require.Zero(t, stopped.code, stopped.stderr)
	require.Contains(t, stopped.out, "moved 1 messages")

	forwardOrder(t, db.DB, "partition_key")
	r := report("--switch", "--yes")
	require.True(t, r.Switched)
	require.EqualValues(t, 1, r.Moved)
	require.Equal(t, 3, outboxRows())
}

func TestImportWatermill_SaysWhatItCannotMove(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	env := map[string]string{"DATABASE_URL": db.DSN}
	stockForwarder(t, db.DB)
	forwardOrder(t, db.DB, "some_other_name")
	var got outcome
	require.Eventually(t, func() bool {
		got = run(t, env, "import-watermill", "--topic", "fwd")
		return got.code == 3
	}, 2*time.Minute, 10*time.Millisecond)
	require.Contains(t, got.out, "cannot move")
	require.Contains(t, got.out, "millrace-key")
	require.Eventually(t, func() bool {
		got = run(t, env, "import-watermill", "--topic", "fwd", "--yes")
		return got.code == 1
	}, 2*time.Minute, 10*time.Millisecond)
	require.Contains(t, got.stderr, "offset 1")
	require.Contains(t, got.stderr, "give another --key")

	got = run(t, env, "import-watermill", "--topic", "fwd", "--group", "nobody")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, "never read")
	require.Contains(t, got.stderr, "give --from-start")
	got = run(t, env, "import-watermill", "--topic", "fwd", "--table", "public.watermill_fwd", "--offsets-table", "no_such")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.stderr, `"no_such"`)
	require.Contains(t, got.stderr, "give --table and --offsets-table")
	got = run(t, env, "import-watermill", "--follow", "--switch", "--batch", "0")
	require.Equal(t, 2, got.code)
	require.Contains(t, got.stderr, "4 problems")
}

func stockForwarder(t *testing.T, db *sql.DB) {
	t.Helper()
	schema, offsets := wsql.DefaultPostgreSQLSchema{}, wsql.DefaultPostgreSQLOffsetsAdapter{}
	for _, q := range append(append(schema.SchemaInitializingQueries("fwd"), offsets.SchemaInitializingQueries("fwd")...), offsets.BeforeSubscribingQueries("fwd", "")...) {
		_, err := db.Exec(q.Query, q.Args...)
		require.NoError(t, err)
	}
}

func forwardOrder(t *testing.T, db *sql.DB, keyName string) {
	t.Helper()
	pub, err := wsql.NewPublisher(db, wsql.PublisherConfig{SchemaAdapter: wsql.DefaultPostgreSQLSchema{}}, nil)
	require.NoError(t, err)
	m := message.NewMessage(uuid.NewString(), []byte(`{}`))
	m.Metadata.Set(keyName, "a")
	require.NoError(t, forwarder.NewPublisher(pub, forwarder.PublisherConfig{ForwarderTopic: "fwd"}).Publish("order.v1", m))
}
