package pgstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
)

const renameCustomer = `UPDATE customer SET name = $2, version = version + 1 WHERE id = $1 AND version = $3 RETURNING version, name -- the last line`

// newCustomers returns a database with one customer, "a" in version 1.
func newCustomers(t *testing.T) *sql.DB {
	t.Helper()
	db := harness.NewDatabase(t).DB
	for _, q := range []string{
		`CREATE TABLE customer (id text PRIMARY KEY, name text NOT NULL DEFAULT '', version bigint NOT NULL DEFAULT 1)`,
		`INSERT INTO customer (id) VALUES ('a')`,
	} {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	return db
}

func newTogether(t *testing.T, db *sql.DB, query string, prepare bool) *pgstore.EntityWriter {
	t.Helper()
	w, err := pgstore.NewEntityWriter(db, query, pgstore.EntityWriterConfig{})
	require.NoError(t, err)
	if prepare {
		require.NoError(t, w.Prepare(t.Context()))
		require.NoError(t, w.Prepare(t.Context()), "preparing twice is harmless")
		t.Cleanup(func() { require.NoError(t, w.Close()) })
	}
	return w
}

// inTx runs do in a transaction, which commits if do returns nil.
func inTx(ctx context.Context, db *sql.DB, do func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func TestTogether_WritesEntityAndMessages(t *testing.T) {
	t.Parallel()
	for _, prepare := range []bool{false, true} {
		t.Run(fmt.Sprintf("prepared=%t", prepare), func(t *testing.T) {
			t.Parallel()
			db := newCustomers(t)
			w := newTogether(t, db, renameCustomer, prepare)
			var version int64
			var name string
			msgs := []outbox.Message{
				{Topic: "t", Key: "a", AggregateVersion: 2, Payload: []byte{0, 1}, Headers: map[string]string{"h": "1"}},
				{Topic: "t", Key: "a", AggregateVersion: 3},
			}
			require.NoError(t, inTx(t.Context(), db, func(tx *sql.Tx) error {
				return w.Append(t.Context(), tx, []any{"a", "new", 1}, []any{&version, &name}, msgs...)
			}))
			require.Equal(t, int64(2), version)
			require.Equal(t, "new", name)
			require.Equal(t, 1, count(t, db, `SELECT count(*) FROM outbox WHERE aggregate_version = 2 AND payload = '\x0001' AND headers = '{"h": "1"}'`))
			require.Equal(t, 1, count(t, db, `SELECT count(*) FROM outbox WHERE aggregate_version = 3 AND payload IS NULL AND headers = '{}'`))
			require.Equal(t, 1, count(t, db, `SELECT count(*) FROM (SELECT aggregate_version > lag(aggregate_version) OVER (ORDER BY position) AS rises FROM outbox) x WHERE rises`),
				"the given order is the order of the positions")

			require.NoError(t, inTx(t.Context(), db, func(tx *sql.Tx) error {
				return w.Append(t.Context(), tx, []any{"a", "newer", 2}, nil)
			}), "without messages and without a place for the row")
			require.Equal(t, 1, count(t, db, `SELECT count(*) FROM customer WHERE name = 'newer' AND version = 3`))
			require.Equal(t, 2, count(t, db, `SELECT count(*) FROM outbox`))
		})
	}
}

func TestTogether_VersionCheckThatFailsAppendsNothing(t *testing.T) {
	t.Parallel()
	db := newCustomers(t)
	w := newTogether(t, db, renameCustomer, true)
	require.NoError(t, inTx(t.Context(), db, func(tx *sql.Tx) error {
		version := int64(-1)
		err := w.Append(t.Context(), tx, []any{"a", "new", 7}, []any{&version, new(string)}, outbox.Message{Topic: "t", Key: "a"})
		require.ErrorIs(t, err, pgstore.ErrNoEntity)
		require.ErrorIs(t, err, sql.ErrNoRows)
		require.Equal(t, int64(-1), version)
		return w.Append(t.Context(), tx, []any{"a", "new", 1}, nil, outbox.Message{Topic: "t", Key: "right"})
	}), "the transaction is still usable")
	require.Equal(t, 1, count(t, db, `SELECT count(*) FROM outbox`))
	require.Equal(t, 1, count(t, db, `SELECT count(*) FROM outbox WHERE key = 'right'`))
	require.Equal(t, 1, count(t, db, `SELECT last_value FROM outbox_position_seq`), "no position was drawn either")
}

func TestTogether_OneFailsBothFail(t *testing.T) {
	t.Parallel()
	db := newCustomers(t)
	_, err := db.Exec(`ALTER TABLE outbox ADD CONSTRAINT refused CHECK (key <> 'refused')`)
	require.NoError(t, err)
	w := newTogether(t, db, renameCustomer, true)
	try := func(key string, args ...any) error {
		return inTx(t.Context(), db, func(tx *sql.Tx) error {
			return w.Append(t.Context(), tx, args, nil, outbox.Message{Topic: "t", Key: key})
		})
	}
	require.ErrorContains(t, try("refused", "a", "new", 1), "refused", "an error behind the returned row is seen")
	require.ErrorContains(t, try("a", "a", nil, 1), "null value")
	require.ErrorIs(t, try("", "a", "new", 1), outbox.ErrInvalidMessage)
	require.ErrorContains(t, try("a", "a", "new"), "3 parameters and was given 2")
	require.Equal(t, 1, count(t, db, `SELECT count(*) FROM customer WHERE version = 1`))
	require.Zero(t, count(t, db, `SELECT count(*) FROM outbox`))
}

func TestTogether_ClosedTransactionAndOtherPools(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	_, err := db.DB.Exec(`CREATE TABLE customer (id text PRIMARY KEY)`)
	require.NoError(t, err)
	w := newTogether(t, db.DB, `INSERT INTO customer VALUES ($1) RETURNING 1;`, true)
	other, err := sql.Open("postgres", db.DSN)
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, inTx(t.Context(), other, func(tx *sql.Tx) error {
		return w.Append(t.Context(), tx, []any{"x"}, nil, outbox.Message{Topic: "t", Key: "x"})
	}))
	require.Equal(t, 1, count(t, db.DB, `SELECT count(*) FROM outbox`))
	tx, err := db.DB.Begin()
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	require.ErrorIs(t, w.Append(t.Context(), tx, []any{"y"}, nil, outbox.Message{Topic: "t", Key: "y"}), outbox.ErrTxDone)
}

func TestTogether_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	_, err := pgstore.NewEntityWriter(nil, "UPDATE customer SET name = $1", pgstore.EntityWriterConfig{MaxPayloadBytes: -1})
	for _, problem := range []string{"db: must not be nil", "RETURNING", "MaxPayloadBytes"} {
		require.ErrorContains(t, err, problem)
	}
}

// hot are statements that count a key's version up. The order of versions is the
// commit order: the row is locked until then.
var hot = map[string]string{
	"update":               `UPDATE customer SET version = version + 1 WHERE id = $1 RETURNING version`,
	"upsert":               `INSERT INTO customer (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET version = customer.version + 1 RETURNING version`,
	"update of a join":     `UPDATE customer a SET version = a.version + 1 FROM (SELECT id FROM customer WHERE id = $1) AS x WHERE a.id = x.id RETURNING a.version`,
	"update behind a with": `WITH x AS (SELECT $1::text AS id) UPDATE customer a SET version = version + 1 FROM x WHERE a.id = x.id RETURNING version`,
}

func TestTogether_PositionsOfOneKeyRiseInCommitOrder(t *testing.T) {
	t.Parallel()
	for name, query := range hot {
		for _, prepare := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, prepared=%t", name, prepare), func(t *testing.T) {
				t.Parallel()
				db := newCustomers(t)
				w := newTogether(t, db, query, prepare)
				versions := hammer(t, db, w, 16, 40)
				require.Equal(t, len(versions), count(t, db, `SELECT count(*) FROM outbox`))
				rows, err := db.QueryContext(t.Context(), `SELECT event_id FROM outbox ORDER BY position`)
				require.NoError(t, err)
				defer rows.Close()
				last := int64(0)
				for rows.Next() {
					var id uuid.UUID
					require.NoError(t, rows.Scan(&id))
					require.Greater(t, versions[id], last, "position order is not commit order")
					last = versions[id]
				}
				require.NoError(t, rows.Err())
			})
		}
	}
}

// hammer writes one key from so many clients at once and returns the version
// that each committed event was written with. Some transactions roll back.
func hammer(t *testing.T, db *sql.DB, w *pgstore.EntityWriter, clients, each int) map[uuid.UUID]int64 {
	t.Helper()
	var mu sync.Mutex
	versions := map[uuid.UUID]int64{}
	g, ctx := errgroup.WithContext(t.Context())
	for c := range clients {
		g.Go(func() error {
			mine := map[uuid.UUID]int64{}
			for i := range each {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				var version int64
				id := uuid.New()
				if err := w.Append(ctx, tx, []any{"a"}, []any{&version}, outbox.Message{ID: id, Topic: "t", Key: "a"}); err != nil {
					return err
				}
				if (c+i)%7 == 0 {
					err = tx.Rollback()
				} else {
					mine[id], err = version, tx.Commit()
				}
				if err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(versions, mine)
			return nil
		})
	}
	require.NoError(t, g.Wait())
	return versions
}
