package pgstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

const grantAll = `GRANT SELECT ON outbox, outbox_position_seq TO reader;
 GRANT SELECT, INSERT, UPDATE ON outbox_cursor, outbox_parked TO reader;`

func TestGuard_RefusesWhatLosesEvents(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil    string // "reader" stands for the role that reads
		problems []string
		asRole   bool
	}{
		"nothing wrong":                  {},
		"nothing wrong for a plain role": {asRole: true, spoil: grantAll},
		"cached sequence":                {spoil: "ALTER SEQUENCE outbox_position_seq CACHE 20", problems: []string{"CACHE 20"}},
		"increment":                      {spoil: "ALTER SEQUENCE outbox_position_seq INCREMENT 2", problems: []string{"INCREMENT 2"}},
		"cycle":                          {spoil: "ALTER SEQUENCE outbox_position_seq CYCLE", problems: []string{"CYCLE"}},
		"unlogged leaf":                  {spoil: "ALTER TABLE outbox_p0 SET UNLOGGED", problems: []string{"not permanent"}},
		"no identity":                    {spoil: "ALTER TABLE outbox ALTER position DROP IDENTITY", problems: []string{"no identity sequence"}},
		"row security":                   {asRole: true, spoil: grantAll + "ALTER TABLE outbox ENABLE ROW LEVEL SECURITY", problems: []string{"row security"}},
		"table missing":                  {spoil: "DROP TABLE outbox_parked", problems: []string{"tables are missing"}},
		"cursor table missing":           {spoil: "DROP TABLE outbox_cursor", problems: []string{"tables are missing"}},
		"no privileges":                  {asRole: true, problems: []string{"GRANT SELECT ON outbox, outbox_position_seq", "GRANT SELECT, INSERT, UPDATE"}},
		"no privilege on the log":        {asRole: true, spoil: grantAll + "REVOKE SELECT ON outbox FROM reader", problems: []string{"GRANT SELECT ON outbox,"}},
		"no privilege on the sequence":   {asRole: true, spoil: grantAll + "REVOKE SELECT ON outbox_position_seq FROM reader", problems: []string{"GRANT SELECT ON outbox,"}},
		"cursor can only be read":        {asRole: true, spoil: grantAll + "REVOKE UPDATE ON outbox_cursor FROM reader", problems: []string{"GRANT SELECT, INSERT, UPDATE"}},
		"parked can only be read":        {asRole: true, spoil: grantAll + "REVOKE INSERT ON outbox_parked FROM reader", problems: []string{"GRANT SELECT, INSERT, UPDATE"}},
		"all at once": {asRole: true, spoil: "ALTER SEQUENCE outbox_position_seq CACHE 7 INCREMENT 3 CYCLE; ALTER TABLE outbox_p0 SET UNLOGGED; ALTER TABLE outbox ENABLE ROW LEVEL SECURITY",
			problems: []string{"CACHE 7", "INCREMENT 3", "CYCLE", "not permanent", "row security", "may not read", "may not keep the cursor"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			database := harness.NewDatabase(t)
			db, role := database.DB, "reader_"+strings.ToLower(rand.Text())
			if tc.asRole {
				db = openAs(t, database, role)
			}
			_, err := database.DB.ExecContext(t.Context(), strings.ReplaceAll(tc.spoil, "reader", role))
			require.NoError(t, err)
			requireProblems(t, db, tc.problems)
		})
	}
}

// requireProblems requires that the log is refused with exactly these problems.
func requireProblems(t *testing.T, db *sql.DB, want []string) {
	store, err := New(db, Config{})
	require.NoError(t, err)
	_, err = guard(t.Context(), db, 0)
	session, acquireErr := store.Acquire(t.Context(), "guard", "test", time.Minute)
	if len(want) == 0 {
		require.NoError(t, err)
		require.NoError(t, acquireErr)
		require.NoError(t, session.Release(context.Background()))
		require.NoError(t, store.Check(t.Context()))
		return
	}
	for _, err := range []error{err, acquireErr, store.Check(t.Context())} {
		var unsafe *outbox.UnsafeError
		require.ErrorAs(t, err, &unsafe)
		require.Len(t, unsafe.Problems, len(want), "%q", unsafe.Problems)
		for i, text := range want {
			require.Contains(t, unsafe.Problems[i], text)
		}
	}
}

// openAs makes a role without any privilege and opens the database as this role.
func openAs(t *testing.T, database *harness.Database, role string) *sql.DB {
	_, err := database.DB.ExecContext(t.Context(), "CREATE ROLE "+role+" LOGIN PASSWORD 'secret'")
	require.NoError(t, err)
	u, err := url.Parse(database.DSN)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "secret")
	db, err := sql.Open("postgres", u.String())
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, db.Close())
		_, err := database.DB.ExecContext(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role)
		require.NoError(t, err)
	})
	return db
}

func TestGuard_RefusesAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	requireProblems(t, harness.EmptyDatabase(t).DB, []string{"tables are missing"})
}

func TestGuard_RefusesASubscribedTable(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	exec := func(query string) {
		_, err := db.ExecContext(context.Background(), query)
		require.NoError(t, err)
	}
	exec(`CREATE SUBSCRIPTION guard CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)`)
	t.Cleanup(func() { exec(`DROP SUBSCRIPTION guard`) })
	exec(`INSERT INTO pg_subscription_rel SELECT oid, 'outbox'::regclass, 'r', NULL FROM pg_subscription WHERE subname = 'guard'
		AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	requireProblems(t, db, []string{"logical subscription"})
}

func TestGuard_RefusesASequenceBehindTheCursor(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	store, err := New(db, Config{})
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "SELECT setval('outbox_position_seq', 100)")
	require.NoError(t, err)
	leader, err := store.Acquire(t.Context(), "guard", "one", time.Minute)
	require.NoError(t, err)
	require.NoError(t, leader.Save(t.Context(), outbox.Checkpoint{Cursor: outbox.Cursor{Position: 100}}))
	require.NoError(t, leader.Release(t.Context()))

	leader, err = store.Acquire(t.Context(), "guard", "one", time.Minute)
	require.NoError(t, err, "the sequence stands at the cursor")
	require.NoError(t, leader.Renew(t.Context(), time.Minute))
	_, err = db.ExecContext(t.Context(), "SELECT setval('outbox_position_seq', 99)")
	require.NoError(t, err)
	requireBehind(t, leader.Renew(t.Context(), time.Minute))
	require.NoError(t, leader.Release(t.Context()))

	_, err = store.Acquire(t.Context(), "guard", "two", time.Minute)
	requireBehind(t, err)
	requireBehind(t, store.Check(t.Context()))
	var owner string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT owner FROM outbox_cursor").Scan(&owner))
	require.Empty(t, owner, "a refused reader keeps no lease")
}

func requireBehind(t *testing.T, err error) {
	var unsafe *outbox.UnsafeError
	require.ErrorAs(t, err, &unsafe)
	require.Len(t, unsafe.Problems, 1)
	require.Contains(t, unsafe.Problems[0], "stands at 99, behind the cursor's position 100")
}

// TestGuard_RefusesAStandby makes the server one that waits for a primary.
func TestGuard_RefusesAStandby(t *testing.T) {
	t.Parallel()
	server := harness.PrivatePostgres(t, harness.PostgresConfig{})
	db := harness.DatabaseOn(t, server).DB
	var dir string
	require.NoError(t, db.QueryRowContext(t.Context(), "SHOW data_directory").Scan(&dir))
	require.NoError(t, server.Shutdown(t.Context()))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o644))
	require.NoError(t, server.Start(t.Context()))
	requireProblems(t, db, []string{"standby"})
}
