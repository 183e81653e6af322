package schedule_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

const patience = 3 * time.Minute

// takeOver takes the lock j once it is free and writes under its guard.
func takeOver(t *testing.T, db *harness.Database) lock.Result[struct{}] {
	t.Helper()
	locker, err := lock.NewLocker(postgresLocks(t, db), lock.Config{})
	require.NoError(t, err)
	var r lock.Result[struct{}]
	harness.Await(t, patience, "the lock lapses", func(context.Context) error {
		r = locker.Do(t.Context(), lock.Lock{Name: "j", AtMostFor: time.Hour}, func(ctx context.Context) error {
			fence, _ := lock.Fence(ctx)
			return effect(ctx, db.DB, schedule.Run{ScheduledAt: time.Now(), Fence: fence}, "next")
		})
		if !r.Executed {
			return errors.New("it is held")
		}
		return nil
	})
	return r
}

func written(t *testing.T, db *sql.DB) (nodes []string) {
	t.Helper()
	rows, err := db.Query(`SELECT node FROM effect ORDER BY id`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var node string
		require.NoError(t, rows.Scan(&node))
		nodes = append(nodes, node)
	}
	require.NoError(t, rows.Err())
	return nodes
}

// A holder is frozen past its lease, as by a pause of its machine. The next one
// takes over and writes. When the first one goes on, its writes are refused: by its
// own clock, and, should that have stood still, by the database.
func TestTrap_2_4_AFrozenHoldersLateWriteIsRefused(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	_, err := db.DB.Exec(effectTable)
	require.NoError(t, err)
	frozen := startRole(t, roleHolder, "frozen", db)
	frozen.AwaitOutput("holding\n", patience)
	frozen.Say("write\n")
	frozen.AwaitOutput("write: refused false, told false, error <nil>\n", patience)

	require.NoError(t, frozen.Pause())
	next := takeOver(t, db)
	require.NoError(t, next.Err)
	require.NoError(t, frozen.Resume())

	frozen.Say("blindly\nwrite\n")
	frozen.AwaitOutput("blindly: refused true", patience)
	frozen.AwaitOutput("write: refused true, told true", patience)
	require.Equal(t, []string{"frozen", "next"}, written(t, db.DB))
	frozen.CloseInput()
	frozen.AwaitOutput("ended: the lock j: the lock is lost", patience)
}

// Frozen in the middle of a guarded transaction, a holder keeps the next one out
// until the database ends that transaction, and nothing of it remains.
func TestTrap_2_4_AFrozenTransactionIsEndedAndNotOvertaken(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	_, err := db.DB.Exec(effectTable)
	require.NoError(t, err)
	frozen := startRole(t, roleHolder, "frozen", db)
	frozen.AwaitOutput("holding\n", patience)
	frozen.Say("begin\n")
	frozen.AwaitOutput("begin: refused false", patience)
	var pid int
	require.NoError(t, db.DB.QueryRow(`SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`).Scan(&pid))
	require.NoError(t, frozen.Pause())
	require.NoError(t, takeOver(t, db).Err)
	var open bool
	require.NoError(t, db.DB.QueryRow(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, pid).Scan(&open))
	require.False(t, open, "taken over beside a guarded transaction")
	require.NoError(t, frozen.Resume())
	frozen.Say("commit\n")
	frozen.CloseInput()
	frozen.AwaitOutput("ended: ", patience)
	require.Regexp(t, `(?m)^commit: refused false, told (true|false), error [^<]`, frozen.Stdout())
	require.Equal(t, []string{"next"}, written(t, db.DB))
}

// Three nodes run a slot each 200 ms while one after the other is killed or frozen
// past its lease. Each slot has its effect once, and the effects of two holders
// never mix.
func TestScheduler_EachSlotHasItsEffectOnceThroughKillsAndFreezes(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	db := harness.NewDatabase(t)
	_, err := db.DB.Exec(effectTable)
	require.NoError(t, err)
	nodes := make([]*lab.Program, 3)
	for i := range nodes {
		nodes[i] = startRole(t, roleScheduler, fmt.Sprint("node", i), db)
		nodes[i].AwaitOutput("ready", patience)
	}
	count := func() (n int) {
		require.NoError(t, db.DB.QueryRow(`SELECT count(DISTINCT slot) FROM effect`).Scan(&n))
		return n
	}
	// holder is the node that wrote last: the one that is worth hitting.
	holder := func() (i int) {
		var name string
		if err := db.DB.QueryRow(`SELECT node FROM effect ORDER BY id DESC LIMIT 1`).Scan(&name); err != nil {
			return 0
		}
		_, err := fmt.Sscanf(name, "node%d", &i)
		require.NoError(t, err)
		return i
	}
	for hit := range 8 {
		before := count()
		harness.Await(t, patience, "slots go on", func(context.Context) error {
			if count() < before+3+random.IntN(8) {
				return errors.New("not yet")
			}
			return nil
		})
		i := holder()
		if hit%2 == 0 {
			nodes[i].Kill()
			nodes[i] = startRole(t, roleScheduler, fmt.Sprint("node", i), db)
			continue
		}
		require.NoError(t, nodes[i].Pause())
		before = count()
		harness.Await(t, patience, "another node takes over", func(context.Context) error {
			if count() < before+3 {
				return errors.New("not yet")
			}
			return nil
		})
		require.NoError(t, nodes[i].Resume())
	}
	var upTo time.Time
	require.NoError(t, db.DB.QueryRow(`SELECT max(slot) FROM effect`).Scan(&upTo))
	harness.Await(t, patience, "what was hit is run again", func(ctx context.Context) error { return settled(ctx, db.DB, upTo) })
	for _, n := range nodes {
		require.Zero(t, n.Terminate(patience))
	}
	verifyEffects(t, db.DB)
}

// settled returns nil once each slot up to that one has its effect and its end.
func settled(ctx context.Context, db *sql.DB, upTo time.Time) error {
	var missing, open int
	err := db.QueryRowContext(ctx, `SELECT count(*) FROM generate_series((SELECT min(slot) FROM effect), $1, interval '200 ms') s
		WHERE NOT EXISTS (SELECT FROM effect WHERE slot = s)`, upTo).Scan(&missing)
	if err != nil {
		return err
	}
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM job_run WHERE outcome <> 'ok' AND scheduled_at <= $1`, upTo).Scan(&open)
	if err == nil && missing+open > 0 {
		err = fmt.Errorf("%d slots are without effect, %d runs without a good end", missing, open)
	}
	return err
}

func verifyEffects(t *testing.T, db *sql.DB) {
	t.Helper()
	var slots, rows, twice, mixed, holders, again int
	require.NoError(t, db.QueryRow(`SELECT count(DISTINCT slot), count(*) FROM effect`).Scan(&slots, &rows))
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM (SELECT slot FROM effect GROUP BY slot HAVING count(*) <> 2 OR count(DISTINCT fence) <> 1) x`).Scan(&twice))
	require.Zero(t, twice, "slots with more than one effect, or half of one")
	require.Equal(t, 2*slots, rows)
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM (SELECT fence, lag(fence) OVER (ORDER BY id) AS before FROM effect) x WHERE fence < before`).Scan(&mixed))
	require.Zero(t, mixed, "an effect came after one of a later holder")
	require.NoError(t, db.QueryRow(`SELECT count(DISTINCT node) FROM effect`).Scan(&holders))
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM job_run WHERE attempt > 1`).Scan(&again))
	require.Greater(t, holders, 1)
	t.Logf("%d slots on %d nodes, %d of them begun more than once", slots, holders, again)
}
