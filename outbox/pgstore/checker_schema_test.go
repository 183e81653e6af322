package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/stretchr/testify/require"
)

// Sizes of the checker's world.
const (
	partitionSize = 20_000 // positions, so that a run crosses many bounds
	plainKeys     = 1_000
	hotKeys       = 12 // for deadlocks
	longKeys      = 5
	fastPathSlots = 16 // locks that a backend keeps to itself
)

// checkerSchema is what the writers need beside the outbox: the entities, the
// truth, a trigger that appends for anyone who writes the truth, and one that
// sleeps between nextval and the insertion of the row.
const checkerSchema = `
CREATE TABLE ledger_keys (key text PRIMARY KEY, version bigint NOT NULL DEFAULT 0) WITH (fillfactor = 20);
CREATE TABLE ledger_events (event_id uuid NOT NULL, key text NOT NULL, version bigint NOT NULL, triggered boolean NOT NULL DEFAULT false);
CREATE FUNCTION ledger_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM outbox_append('ledger', NEW.key, ''::bytea, aggregate_version => NEW.version, event_id => NEW.event_id);
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_trigger AFTER INSERT ON ledger_events FOR EACH ROW WHEN (NEW.triggered) EXECUTE FUNCTION ledger_trigger();
CREATE FUNCTION ledger_sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(0.01 * random());
    RETURN NEW;
END $$;
CREATE TRIGGER ledger_sleep BEFORE INSERT ON outbox FOR EACH ROW WHEN (random() < 0.02) EXECUTE FUNCTION ledger_sleep();
`

func createCheckerSchema(ctx context.Context, t *testing.T, db *sql.DB) {
	exec := func(query string) {
		_, err := db.ExecContext(ctx, query)
		require.NoError(t, err, query)
	}
	exec(checkerSchema)
	exec(fmt.Sprintf(`INSERT INTO ledger_keys SELECT 'plain' || g FROM generate_series(0, %d - 1) g UNION ALL
		SELECT 'hot' || g FROM generate_series(0, %d - 1) g UNION ALL SELECT 'long' || g FROM generate_series(0, %d - 1) g`,
		plainKeys, hotKeys, longKeys))
	for i := range fastPathSlots + 2 {
		exec(fmt.Sprintf("CREATE TABLE ledger_slot_%d ()", i))
	}
	leaves, err := db.QueryContext(ctx, "SELECT relid::regclass FROM pg_partition_tree('outbox') WHERE isleaf AND relid <> 'outbox_default'::regclass")
	require.NoError(t, err)
	var drop []string
	for leaves.Next() {
		var leaf string
		require.NoError(t, leaves.Scan(&leaf))
		drop = append(drop, leaf)
	}
	require.NoError(t, leaves.Err())
	for _, leaf := range drop {
		exec("DROP TABLE " + leaf)
	}
	require.NoError(t, makeLeaves(ctx, db))
}

// makeLeaves makes small partitions ahead and lets writers insert into them
// directly. A lock that cannot be had is left for the next time.
func makeLeaves(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, "SELECT outbox_make_partitions(4, $1)", partitionSize); err != nil {
		return ignore(err, pqerror.LockNotAvailable, pqerror.TRDeadlockDetected)
	}
	var bare []string
	err := db.QueryRowContext(ctx, `SELECT array_agg(c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		 WHERE i.inhparent = 'outbox'::regclass AND c.relname <> 'outbox_default'
		   AND NOT EXISTS (SELECT FROM pg_attrdef d WHERE d.adrelid = c.oid AND d.adnum = 1)`).Scan(pq.Array(&bare))
	if err != nil {
		return err
	}
	for _, leaf := range bare {
		_, err := db.ExecContext(ctx, "ALTER TABLE "+leaf+" ALTER position SET DEFAULT nextval('outbox_position_seq')")
		if err := ignore(err, pqerror.LockNotAvailable, pqerror.TRDeadlockDetected); err != nil {
			return err
		}
	}
	return nil
}

// ignore returns err unless it is nil or the server's with one of the codes.
func ignore(err error, codes ...pqerror.Code) error {
	if err == nil || pq.As(err, codes...) != nil {
		return nil
	}
	return err
}

// gone reports that a connection was terminated under its user.
func gone(err error) bool {
	var server *pq.Error
	return err != nil && (!errors.As(err, &server) || server.Code == pqerror.AdminShutdown)
}

// withOptions returns dsn with further connection parameters.
func withOptions(t *testing.T, dsn string, options ...string) string {
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	q := u.Query()
	for i := 0; i < len(options); i += 2 {
		q.Set(options[i], options[i+1])
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// wait pauses for d, or until stop is closed: then it returns false.
func wait(stop <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-stop:
		return false
	case <-timer.C:
		return true
	}
}
