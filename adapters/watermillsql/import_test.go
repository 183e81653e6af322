package watermillsql_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/watermillsql"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

const table = "events_out" // the forwarder's topic

func TestImport_MovesWhatTheGroupHasNotAcknowledged(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	forward(t, db, wsql.DefaultPostgreSQLSchema{}, "order.v1", "a", "1", "2", "3")
	acknowledge(t, db, 1)

	cfg := importing()
	i, err := watermillsql.NewImporter(db, table, newWriter(t, db), cfg)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // see importAll
		look, err := i.Preview(t.Context())
		return err == nil && reflect.DeepEqual(watermillsql.Preview{Ready: 2}, look)
	}, 2*time.Minute, 5*time.Millisecond)
	require.Empty(t, contents(t, db), "looking changes nothing")

	require.EqualValues(t, 2, importAll(t, db, cfg).Moved)
	require.Equal(t, []string{"a=2", "a=3"}, moved(t, db))
	require.Contains(t, contents(t, db)[0], `"topic":"order.v1"`)
	require.Contains(t, contents(t, db)[0], `"occurred-at"`)
	require.Contains(t, contents(t, db)[0], `"tenant":"x"`)

	done, err := importOnce(t, db, table, cfg)
	require.NoError(t, err)
	require.Zero(t, done.Moved, "again there is nothing")
	require.Zero(t, stockRest(t, db), "a stock forwarder that starts again gets nothing")
}

func TestImport_KeepsEventIDPayloadAndTombstone(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	id := uuid.NewString()
	null, binary := message.NewMessage(uuid.NewString(), nil), message.NewMessage(id, []byte{0, 0xff, '"'})
	null.Metadata.Set(outbox.MetadataKey, "k")
	binary.Metadata.Set(outbox.MetadataKey, "k")
	require.NoError(t, forwarderPublisher(t, db, wsql.DefaultPostgreSQLSchema{}).Publish("t", binary, null))
	importAll(t, db, importing())
	var gotID string
	var payload []byte
	var nulls int
	require.NoError(t, db.QueryRow(`SELECT event_id, payload FROM outbox ORDER BY position LIMIT 1`).Scan(&gotID, &payload))
	require.Equal(t, id, gotID)
	require.Equal(t, []byte{0, 0xff, '"'}, payload)
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM outbox WHERE payload IS NULL`).Scan(&nulls))
	require.Equal(t, 1, nulls)
}

// A transaction that got its id early and changed a key late stands before the
// key's earlier change in watermill-sql's order. The batches must not part them.
func TestImport_KeepsAKeysOrderAgainstTransactionIDs(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	early, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = early.Exec(`SELECT pg_current_xact_id()`)
	require.NoError(t, err)
	stock := wsql.DefaultPostgreSQLSchema{}
	for n := range 10 {
		forward(t, db, stock, "t", "a", fmt.Sprint(n))
	}
	forward(t, early, stock, "t", "a", "10")
	require.NoError(t, early.Commit())
	forward(t, db, stock, "t", "a", "11")

	cfg := importing()
	cfg.BatchSize = 1
	require.EqualValues(t, 2, importAll(t, db, cfg).Batches, "one up to the early transaction's row, one behind it")
	var want []string
	for n := range 12 {
		want = append(want, fmt.Sprintf("a=%d", n))
	}
	require.Equal(t, want, moved(t, db))
}

// Here the later change of a key is decided and the earlier one is not, because a
// third transaction with an id between them still runs.
func TestImport_HoldsALaterChangeUntilTheEarlierOneIsDecided(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	begin := func() *sql.Tx {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.Exec(`SELECT pg_current_xact_id()`)
		require.NoError(t, err)
		return tx
	}
	stock := wsql.DefaultPostgreSQLSchema{}
	forward(t, db, stock, "t", "b", "1")
	early, between := begin(), begin()
	forward(t, db, stock, "t", "a", "1")
	forward(t, early, stock, "t", "a", "2")
	require.NoError(t, early.Commit())
	i, err := watermillsql.NewImporter(db, table, newWriter(t, db), importing())
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		look, err := i.Preview(t.Context())
		return err == nil && look.Ready == 2 && look.Waiting == 1
	}, 2*time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		_, err := i.Once(t.Context())
		return err == nil && len(moved(t, db)) > 0
	}, 2*time.Minute, 10*time.Millisecond)
	require.Equal(t, []string{"b=1"}, moved(t, db))

	require.NoError(t, between.Rollback())
	importAll(t, db, importing())
	require.Equal(t, []string{"b=1", "a=1", "a=2"}, moved(t, db))
}

func TestImport_WaitsForLateCommits(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	stock := wsql.DefaultPostgreSQLSchema{}
	slow, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	forward(t, slow, stock, "t", "slow", "1")
	forward(t, db, stock, "t", "quick", "1")
	i, err := watermillsql.NewImporter(db, table, newWriter(t, db), importing())
	require.NoError(t, err)
	_, err = i.Once(t.Context())
	require.NoError(t, err)
	require.NotContains(t, moved(t, db), "slow=1")
	require.NoError(t, slow.Commit())
	importAll(t, db, importing())
	require.Len(t, moved(t, db), 2)
}

// 9…9 and 10…0 are neighbours as numbers only.
func TestImport_OrdersTransactionIDsAsNumbers(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	forward(t, db, wsql.DefaultPostgreSQLSchema{}, "t", "a", "1", "2", "3", "4")
	_, err := db.Exec(`UPDATE watermill_events_out SET transaction_id = (97 + "offset")::text::xid8`)
	require.NoError(t, err)
	i, err := watermillsql.NewImporter(db, table, newWriter(t, db), importing())
	require.NoError(t, err)
	look, err := i.Preview(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4, look.Ready)
	_, err = i.Switch(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"a=1", "a=2", "a=3", "a=4"}, moved(t, db))
	require.Zero(t, stockRest(t, db))
}

// Watermill-sql's subscriber waits for any transaction of the cluster; the import
// only for those that could write to the table.
func TestImport_DoesNotWaitForOtherDatabases(t *testing.T) {
	t.Parallel()
	other, err := harness.NewDatabase(t).DB.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = other.Rollback() }()
	_, err = other.Exec(`INSERT INTO outbox (topic, key) VALUES ('t', 'k')`)
	require.NoError(t, err)
	db := stockDatabase(t)
	forward(t, db, wsql.DefaultPostgreSQLSchema{}, "t", "a", "1")
	require.EqualValues(t, 1, importAll(t, db, importing()).Moved)
}

func TestImport_StopsAtWhatItCannotTake(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		put  func(t *testing.T, db *sql.DB)
		want error
	}{
		"no envelope": {func(t *testing.T, db *sql.DB) {
			publish(t, db, wsql.DefaultPostgreSQLSchema{}, table, `{"some":"json"}`)
		}, watermillsql.ErrNotEnvelope},
		"no key": {func(t *testing.T, db *sql.DB) {
			require.NoError(t, forwarderPublisher(t, db, wsql.DefaultPostgreSQLSchema{}).Publish("t", message.NewMessage(uuid.NewString(), nil)))
		}, outbox.ErrInvalidMessage},
		"refused by the writer": {func(t *testing.T, db *sql.DB) {
			forward(t, db, wsql.DefaultPostgreSQLSchema{}, "no such:topic", "a", "1")
		}, outbox.ErrInvalidMessage},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := stockDatabase(t)
			forward(t, db, wsql.DefaultPostgreSQLSchema{}, "t", "a", "1")
			c.put(t, db)
			forward(t, db, wsql.DefaultPostgreSQLSchema{}, "t", "a", "2")

			cfg := importing()
			i, err := watermillsql.NewImporter(db, table, newWriter(t, db), cfg)
			require.NoError(t, err)
			var look watermillsql.Preview
			require.Eventually(t, func() bool {
				look, err = i.Preview(t.Context())
				return err == nil && look.Waiting == 0 && len(look.Refused) == 1
			}, 2*time.Minute, 5*time.Millisecond)
			require.ErrorIs(t, look.Refused[0], c.want)

			require.Eventually(t, func() bool {
				_, err = i.Once(t.Context())
				return err != nil
			}, 2*time.Minute, 5*time.Millisecond)
			var row *watermillsql.RowError
			require.ErrorAs(t, err, &row)
			require.ErrorIs(t, err, c.want)
			require.EqualValues(t, 2, row.Row.Offset)
			require.ErrorAs(t, i.Run(t.Context()), &row, "following, too")
			require.Empty(t, moved(t, db), "its batch is not moved")

			var refused []int64
			cfg.Refused = func(_ context.Context, row *watermillsql.RowError) error {
				refused = append(refused, row.Row.Offset)
				return nil
			}
			require.EqualValues(t, 1, importAll(t, db, cfg).Skipped)
			require.Equal(t, []int64{2}, refused)
			require.Equal(t, []string{"a=1", "a=2"}, moved(t, db))
		})
	}
}

func TestImport_RefusesAGroupThatNeverRead(t *testing.T) {
	t.Parallel()
	db := stockDatabase(t)
	forward(t, db, wsql.DefaultPostgreSQLSchema{}, "t", "a", "1")
	cfg := importing()
	cfg.ConsumerGroup = "tpyo"
	_, err := importOnce(t, db, table, cfg)
	require.ErrorIs(t, err, watermillsql.ErrUnknownGroup)
	cfg.FromStart = true
	require.EqualValues(t, 1, importAll(t, db, cfg).Moved)

	_, err = importOnce(t, db, "nowhere", cfg)
	require.ErrorIs(t, err, watermillsql.ErrNoStockTable)
}

func TestNewImporter_NamesAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := watermillsql.NewImporter(nil, `a"b`, nil, watermillsql.ImportConfig{BatchSize: -1, Poll: -1, SwitchTimeout: -1, SwitchAttempts: -1})
	for _, field := range []string{"db", "topic", "writer", "BatchSize", "Poll", "SwitchTimeout", "SwitchAttempts"} {
		require.ErrorContains(t, err, field+": ")
	}
}

// stockDatabase has the outbox and a stock table whose forwarder has read.
func stockDatabase(t *testing.T) *sql.DB {
	t.Helper()
	return withStock(t, harness.NewDatabase(t).DB)
}

func withStock(t *testing.T, db *sql.DB) *sql.DB {
	t.Helper()
	for _, q := range append(wsql.DefaultPostgreSQLSchema{}.SchemaInitializingQueries(table), wsql.DefaultPostgreSQLOffsetsAdapter{}.SchemaInitializingQueries(table)...) {
		_, err := db.Exec(q.Query)
		require.NoError(t, err)
	}
	for _, q := range (wsql.DefaultPostgreSQLOffsetsAdapter{}).BeforeSubscribingQueries(table, "") {
		_, err := db.Exec(q.Query, q.Args...)
		require.NoError(t, err)
	}
	return db
}

func importing() watermillsql.ImportConfig {
	return watermillsql.ImportConfig{Poll: 10 * time.Millisecond}
}

// importOnce moves what is there.
func importOnce(t *testing.T, db *sql.DB, topic string, cfg watermillsql.ImportConfig) (watermillsql.ImportResult, error) {
	t.Helper()
	i, err := watermillsql.NewImporter(db, topic, newWriter(t, db), cfg)
	require.NoError(t, err)
	return i.Once(t.Context())
}

func forwarderPublisher(t *testing.T, db wsql.ContextExecutor, schema wsql.SchemaAdapter) message.Publisher {
	t.Helper()
	pub, err := wsql.NewPublisher(db, wsql.PublisherConfig{SchemaAdapter: schema}, nil)
	require.NoError(t, err)
	return forwarder.NewPublisher(pub, forwarder.PublisherConfig{ForwarderTopic: table})
}

// forward publishes as services with a stock forwarder do.
func forward(t *testing.T, db wsql.ContextExecutor, schema wsql.SchemaAdapter, topic, key string, payloads ...string) {
	t.Helper()
	pub := forwarderPublisher(t, db, schema)
	for _, p := range payloads {
		m := message.NewMessage(uuid.NewString(), []byte(p))
		m.Metadata = message.Metadata{outbox.MetadataKey: key, "tenant": "x"}
		require.NoError(t, pub.Publish(topic, m))
	}
}

// importAll imports until nothing waits any more, and adds up. One call is not
// enough: rows that were decided wait in a look between whose snapshot and locks a
// transaction of another database ends.
func importAll(t *testing.T, db *sql.DB, cfg watermillsql.ImportConfig) (sum watermillsql.ImportResult) {
	t.Helper()
	i, err := watermillsql.NewImporter(db, table, newWriter(t, db), cfg)
	require.NoError(t, err)
	harness.Await(t, 2*time.Minute, "all rows are imported", func(ctx context.Context) error {
		done, err := i.Once(ctx)
		sum.Moved, sum.Skipped, sum.Batches = sum.Moved+done.Moved, sum.Skipped+done.Skipped, sum.Batches+done.Batches
		require.NoError(t, err)
		look, err := i.Preview(ctx)
		require.NoError(t, err)
		if look.Ready+look.Waiting > 0 {
			return fmt.Errorf("there is more: %+v", look)
		}
		return nil
	})
	return sum
}

// acknowledge moves the stock group past the rows up to offset.
func acknowledge(t *testing.T, db *sql.DB, offset int64) {
	t.Helper()
	_, err := db.Exec(`UPDATE watermill_offsets_events_out o SET offset_acked = m."offset", last_processed_transaction_id = m.transaction_id
		FROM watermill_events_out m WHERE m."offset" = $1`, offset)
	require.NoError(t, err)
}

// stockRest counts what a stock subscriber would still read.
func stockRest(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM watermill_events_out m, watermill_offsets_events_out o
		WHERE m.transaction_id > o.last_processed_transaction_id
		   OR m.transaction_id = o.last_processed_transaction_id AND m."offset" > o.offset_acked`).Scan(&n))
	return n
}

// moved lists the outbox in its order as key=payload.
func moved(t *testing.T, db *sql.DB) []string {
	t.Helper()
	var b []byte
	require.NoError(t, db.QueryRow(`SELECT coalesce(json_agg(key || '=' || coalesce(convert_from(payload, 'UTF8'), '') ORDER BY position), '[]') FROM outbox`).Scan(&b))
	var out []string
	require.NoError(t, json.NewDecoder(strings.NewReader(string(b))).Decode(&out))
	return out
}
