package pgstore_test

import (
	"context"
	"database/sql"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	sqlfiles "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

// TestMembership_NotificationsStayWithinTheirSchema: one database holds two outboxes. What is
// notified for one outbox leaves the relays of the other idle.
func TestMembership_NotificationsStayWithinTheirSchema(t *testing.T) {
	t.Parallel()
	db := harness.EmptyDatabase(t)
	var dbs []*sql.DB
	var counts []*atomic.Int64
	for _, schema := range []string{"orders", "Billing 2"} {
		own := inSchema(t, db, schema)
		listener, count := listen(t, own.DSN, own)
		require.Eventually(t, listener.Working, 2*time.Minute, time.Millisecond)
		require.NoError(t, listener.Arm(t.Context(), time.Minute))
		dbs, counts = append(dbs, own.DB), append(counts, count)
	}
	notified := func() [2]int64 { return [2]int64{counts[0].Load(), counts[1].Load()} }
	_, err := dbs[0].ExecContext(t.Context(), `SELECT outbox_ring()`)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return notified() == [2]int64{1, 0} }, 2*time.Minute, time.Millisecond)
	store := newStore(t, dbs[1], pgstore.Config{})
	require.NoError(t, store.NotifyStandbys(t.Context(), "r"), "a call is heard whether or not somebody sleeps")
	require.Eventually(t, func() bool { return notified() == [2]int64{1, 1} }, 2*time.Minute, time.Millisecond)
	_, err = dbs[1].ExecContext(t.Context(), `SELECT pg_notify('outbox_doorbell', '')`)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return notified() == [2]int64{2, 2} }, 2*time.Minute, time.Millisecond, "a notification without a name is for all")
}

// inSchema makes an outbox in a schema of db.
func inSchema(t *testing.T, db *harness.Database, schema string) *harness.Database {
	t.Helper()
	_, err := db.DB.Exec(`CREATE SCHEMA "` + schema + `"`)
	require.NoError(t, err)
	address, err := url.Parse(db.DSN)
	require.NoError(t, err)
	q := address.Query()
	q.Set("search_path", `"`+schema+`"`)
	address.RawQuery = q.Encode()
	own, err := sql.Open("postgres", address.String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, own.Close()) })
	_, err = sqlfiles.Up(t.Context(), own, sqlfiles.Outbox)
	require.NoError(t, err)
	return &harness.Database{DSN: address.String(), DB: own}
}

func TestMembership_SweepsOutWhoIsLongGone(t *testing.T) {
	t.Parallel()
	s := newSubject(t, false)
	for id, age := range map[string]string{"long": "2 minutes", "late": "10 seconds", "me": "1 hour"} {
		_, err := s.db.Exec(`INSERT INTO outbox_roster VALUES ('r', $1, 1, clock_timestamp() - $2::interval)`, id, age)
		require.NoError(t, err)
	}
	members, err := s.Announce(t.Context(), "r", outbox.Member{ID: "me"}, time.Minute)
	require.NoError(t, err)
	require.Empty(t, members.Others)
	require.Equal(t, 2, count(t, s.db, `SELECT count(*) FROM outbox_roster WHERE instance IN ('me', 'late')`))
	require.Zero(t, count(t, s.db, `SELECT count(*) FROM outbox_roster WHERE instance = 'long'`))
}

// TestMembership_AFleetGoesOnWithoutItsTable: a program that is newer than the schema.
func TestMembership_AFleetGoesOnWithoutItsTable(t *testing.T) {
	t.Parallel()
	s := newSubject(t, false)
	_, err := s.db.Exec(`DROP TABLE outbox_roster`)
	require.NoError(t, err)
	told := make(chan error, 100)
	f, err := outbox.NewFleet([]outbox.FleetOutbox{{Name: "a", Log: s.Store, Publisher: nowhere{}, Relay: outbox.RelayConfig{
		LeaseTTL: 10 * time.Second, Hooks: outbox.Hooks{Retrying: func(err error, _ time.Duration) { told <- err }},
	}}}, outbox.FleetConfig{})
	require.NoError(t, err)
	background(t, f.Run)
	require.ErrorContains(t, <-told, "announce to the fleet: pq: relation \"outbox_roster\" does not exist")
	require.Eventually(t, func() bool { return f.Relay("a").Status().Leading }, 2*time.Minute, time.Millisecond)
	epoch, renewed := f.Relay("a").Status().Epoch, leaseEnd(t, s.db)
	require.Eventually(t, func() bool { return leaseEnd(t, s.db).After(renewed.Add(time.Second)) }, 2*time.Minute, 10*time.Millisecond, "it renews its lease")
	require.Equal(t, epoch, f.Relay("a").Status().Epoch, "and keeps it")
}

// leaseEnd is the end of the lease of the relay of the default name.
func leaseEnd(t *testing.T, db *sql.DB) (until time.Time) {
	t.Helper()
	require.NoError(t, db.QueryRow(`SELECT lease_until FROM outbox_cursor WHERE relay = 'relay'`).Scan(&until))
	return until
}

// nowhere is a publisher that has nothing to do.
type nowhere struct{}

func (nowhere) PublishBatch(_ context.Context, entries []outbox.Entry, ack func(int, error)) {
	for i := range entries {
		ack(i, nil)
	}
}

func (nowhere) Publish(string, ...*message.Message) error { return nil }
func (nowhere) Close() error                              { return nil }

// TestMembership_AnIdleFleetAsksLittle: two instances of a fleet on one outbox, one of
// which leads, with their Listeners. The leader renews and announces in one, the
// standby looks and announces in one, each a little more than once a second.
func TestMembership_AnIdleFleetAsksLittle(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	var fleets []*outbox.Fleet
	for range 2 {
		listener, err := pgstore.NewListener(db.DSN, db.DB, "relay")
		require.NoError(t, err)
		f, err := outbox.NewFleet([]outbox.FleetOutbox{{Name: "a", Log: newStore(t, db.DB, pgstore.Config{}), Publisher: nowhere{}, Relay: outbox.RelayConfig{Listener: listener}}}, outbox.FleetConfig{})
		require.NoError(t, err)
		background(t, func(ctx context.Context) error { return listener.Run(ctx, f.Relay("a").Wake) })
		background(t, f.Run)
		fleets = append(fleets, f)
	}
	// Of this database, as far as Postgres has been told. The transactions are only
	// logged: those of autovacuum are among them.
	written := func() (announcements, renewals, all int) {
		require.NoError(t, db.DB.QueryRow(`
			SELECT (SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'outbox_roster'),
			       (SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'outbox_cursor'),
			       (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())`).Scan(&announcements, &renewals, &all))
		return announcements, renewals, all
	}
	require.Eventually(t, func() bool {
		return fleets[0].Relay("a").Status().Members == 2 && fleets[1].Relay("a").Status().Members == 2
	}, 2*time.Minute, 10*time.Millisecond)
	<-time.After(5 * time.Second) // the leader has become idle
	announcements, renewals, all := written()
	began := time.Now()
	<-time.After(12 * time.Second)
	announced, renewed, done := written()
	rate := func(from, to int) float64 { return float64(to-from) / time.Since(began).Seconds() }
	t.Logf("a second: %.2f announcements, %.2f renewals; %.2f transactions in all", rate(announcements, announced), rate(renewals, renewed), rate(all, done))
	require.Positive(t, renewed-renewals)
	require.Less(t, rate(announcements, announced), 2*1.3)
	require.Less(t, rate(renewals, renewed), 1.3)
}
