package pgstore_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
)

// leafSize is the number of positions of a partition in these tests.
const leafSize = 1000

// smallPartitions gives a fresh log partitions of leafSize.
func smallPartitions(t testing.TB, db *sql.DB) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT name FROM outbox_partitions WHERE lo IS NOT NULL`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		_, err := db.ExecContext(t.Context(), `DROP TABLE `+pq.QuoteIdentifier(name))
		require.NoError(t, err)
	}
	require.NoError(t, rows.Err())
	morePartitions(t, db)
}

func morePartitions(t testing.TB, db *sql.DB) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `SELECT outbox_make_partitions(4, $1)`, leafSize)
	require.NoError(t, err)
}

// fillLog commits n rows whose creation is so long ago.
func fillLog(t testing.TB, db *sql.DB, n int, age time.Duration) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `
		INSERT INTO outbox (topic, key, created_at)
		SELECT 't', 'k-' || i % 10, clock_timestamp() - $2 * interval '1 second' FROM generate_series(1, $1) i`, n, age.Seconds())
	require.NoError(t, err)
}

func setCursor(t testing.TB, db *sql.DB, relay string, c outbox.Cursor) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `
		INSERT INTO outbox_cursor (relay, position, gaps) VALUES ($1, $2, $3)
		ON CONFLICT (relay) DO UPDATE SET position = $2, gaps = $3`, relay, c.Position, pgstore.EncodeGaps(c.Gaps))
	require.NoError(t, err)
}

func newStore(t testing.TB, db *sql.DB, cfg pgstore.Config) *pgstore.Store {
	t.Helper()
	store, err := pgstore.New(db, cfg)
	require.NoError(t, err)
	return store
}

func TestNew_ChecksTheRetention(t *testing.T) {
	t.Parallel()
	_, err := pgstore.New(nil, pgstore.Config{Retention: -2})
	require.ErrorContains(t, err, "db: must not be nil")
	require.ErrorContains(t, err, "Retention: must be positive, or Forever, is -2ns")
	_, err = pgstore.New(&sql.DB{}, pgstore.Config{Retention: pgstore.Forever})
	require.NoError(t, err)
}

// need is what a log must keep: the model that the drops are held against.
type need struct {
	cursors map[string]outbox.Cursor
	parked  map[int64]bool
	created map[int64]time.Time
	keep    time.Duration
}

// undelivered reports whether some relay has not delivered p.
func (n *need) undelivered(p int64) bool {
	for _, c := range n.cursors {
		if p > c.Position || slices.ContainsFunc(c.Gaps, func(g outbox.Range) bool { return g.Lo <= p && p <= g.Hi }) {
			return true
		}
	}
	return len(n.cursors) == 0
}

// keeps reports whether a partition holds anything that is needed.
func (n *need) keeps(p pgstore.Partition) bool {
	var newest int64
	for pos := p.From; pos < p.To; pos++ {
		if n.undelivered(pos) || n.parked[pos] {
			return true
		}
		if _, ok := n.created[pos]; ok {
			newest = pos
		}
	}
	return newest != 0 && time.Since(n.created[newest]) < n.keep
}

// random draws cursors, gaps and parked positions again.
func (n *need) random(r *rand.Rand, tail int64) {
	n.parked = map[int64]bool{}
	for range r.IntN(3) {
		n.parked[1+r.Int64N(tail)] = true
	}
	for _, relay := range []string{"a", "b"}[:1+r.IntN(2)] {
		c := outbox.Cursor{Position: max(1, tail-r.Int64N(2*leafSize), n.cursors[relay].Position)}
		var gaps []int64
		for range r.IntN(3) {
			gaps = append(gaps, max(1, c.Position-r.Int64N(3*leafSize)))
		}
		slices.Sort(gaps)
		n.cursors[relay] = c.Without(slices.Compact(gaps))
	}
}

func (n *need) store(t *testing.T, db *sql.DB) {
	for relay, c := range n.cursors {
		setCursor(t, db, relay, c)
	}
	_, err := db.ExecContext(t.Context(), `DELETE FROM outbox_parked`)
	require.NoError(t, err)
	for p := range n.parked {
		_, err := db.ExecContext(t.Context(), `INSERT INTO outbox_parked (relay, position, topic, key, reason) VALUES ('a', $1, 't', 'k', 'r')`, p)
		require.NoError(t, err)
	}
}

func (n *need) load(t *testing.T, db *sql.DB) (tail int64) {
	n.created = map[int64]time.Time{}
	rows, err := db.QueryContext(t.Context(), `SELECT position, created_at FROM outbox`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var p int64
		var at time.Time
		require.NoError(t, rows.Scan(&p, &at))
		n.created[p] = at
		tail = max(tail, p)
	}
	require.NoError(t, rows.Err())
	return tail
}

// TestDropPartitions_DropsWhatNobodyNeedsAndNothingElse holds random drops
// against a model: nothing undelivered, in a gap, parked or young is ever
// dropped, and what is before all of that is.
func TestDropPartitions_DropsWhatNobodyNeedsAndNothingElse(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	db := harness.NewDatabase(t).DB
	smallPartitions(t, db)
	store := newStore(t, db, pgstore.Config{})
	n := &need{cursors: map[string]outbox.Cursor{}, keep: time.Hour}
	dropped := 0
	for step := range 40 {
		fillLog(t, db, 1+r.IntN(2*leafSize), []time.Duration{0, 2 * n.keep, 3 * n.keep}[r.IntN(3)])
		morePartitions(t, db)
		tail := n.load(t, db)
		before, err := store.Partitions(t.Context())
		require.NoError(t, err)
		if step > 0 { // at first, no relay has run
			n.random(r, tail)
			n.store(t, db)
		}
		expected, err := store.Droppable(t.Context(), n.keep)
		require.NoError(t, err)
		names, err := store.DropPartitions(t.Context(), n.keep)
		require.NoError(t, err)
		require.ElementsMatch(t, namesOf(expected), names, "what is told to be droppable is dropped")
		dropped += len(names)
		first := int64(1) // what no relay has delivered holds everything above it
		for !n.undelivered(first) {
			first++
		}
		for _, p := range before {
			if p.To > 0 && n.keeps(p) {
				require.NotContains(t, names, p.Name, "step %d", step)
			} else if p.To > 0 && p.To <= first {
				require.Contains(t, names, p.Name, "step %d", step)
			}
		}
	}
	require.Greater(t, dropped, 5)
}

func namesOf(partitions []pgstore.Partition) (names []string) {
	for _, p := range partitions {
		names = append(names, p.Name)
	}
	return names
}

func TestDropPartitions_ReadsTheFirstGapAsGoWritesIt(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	for _, c := range []outbox.Cursor{
		{Position: 0},
		{Position: 5},
		{Position: 5, Gaps: []outbox.Range{{Lo: 1, Hi: 1}}},
		{Position: 128, Gaps: []outbox.Range{{Lo: 127, Hi: 127}}},
		{Position: 128, Gaps: []outbox.Range{{Lo: 128, Hi: 128}}},
		{Position: 1 << 40, Gaps: []outbox.Range{{Lo: 1<<39 + 12345, Hi: 1 << 40}}},
		{Position: 1<<63 - 1, Gaps: []outbox.Range{{Lo: 1<<62 + 99, Hi: 1<<62 + 100}, {Lo: 1<<63 - 2, Hi: 1<<63 - 2}}},
	} {
		want := c.Position
		if len(c.Gaps) > 0 {
			want = c.Gaps[0].Lo - 1
		}
		var got int64
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT outbox_delivered_to($1, $2)`, c.Position, pgstore.EncodeGaps(c.Gaps)).Scan(&got))
		require.Equal(t, want, got, "%+v", c)
	}
}

func TestDropPartitions_KeepsParkedMessagesUntilTheyAreDecidedAndDone(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	smallPartitions(t, db)
	store := newStore(t, db, pgstore.Config{})
	fillLog(t, db, 2*leafSize, time.Hour)
	morePartitions(t, db)
	setCursor(t, db, "a", outbox.Cursor{Position: 2 * leafSize})
	_, err := db.ExecContext(t.Context(), `INSERT INTO outbox_parked (relay, position, topic, key, reason) VALUES ('a', 7, 't', 'k', 'r')`)
	require.NoError(t, err)
	for _, state := range []string{"parked", "redrive", "skip", "discard"} {
		_, err := db.ExecContext(t.Context(), `UPDATE outbox_parked SET state = $1`, state)
		require.NoError(t, err)
		names, err := store.DropPartitions(t.Context(), time.Minute)
		require.NoError(t, err)
		require.NotContains(t, names, "outbox_p0", state)
	}
	_, err = db.ExecContext(t.Context(), `UPDATE outbox_parked SET state = 'discarded'`)
	require.NoError(t, err)
	names, err := store.DropPartitions(t.Context(), time.Minute)
	require.NoError(t, err)
	require.Equal(t, []string{"outbox_p0"}, names)
}

func TestDropPartitions_EmptiesTheDefaultPartition(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	smallPartitions(t, db)
	store := newStore(t, db, pgstore.Config{})
	fillLog(t, db, 6*leafSize, time.Hour) // nobody made partitions ahead
	strays := count(t, db, `SELECT count(*) FROM outbox_default`)
	require.Positive(t, strays)
	for _, keeps := range []outbox.Cursor{
		{Position: 6*leafSize - 1},
		{Position: 6 * leafSize, Gaps: []outbox.Range{{Lo: 6 * leafSize, Hi: 6 * leafSize}}},
	} {
		setCursor(t, db, "a", keeps)
		_, err := store.DropPartitions(t.Context(), time.Minute)
		require.NoError(t, err)
		require.Equal(t, strays, count(t, db, `SELECT count(*) FROM outbox_default`), "%+v", keeps)
	}
	setCursor(t, db, "a", outbox.Cursor{Position: 6 * leafSize})
	_, err := store.DropPartitions(t.Context(), 2*time.Hour)
	require.NoError(t, err)
	require.Equal(t, strays, count(t, db, `SELECT count(*) FROM outbox_default`), "too young")
	names, err := store.DropPartitions(t.Context(), time.Minute)
	require.NoError(t, err)
	require.Equal(t, []string{"outbox_default"}, names)
	require.Zero(t, count(t, db, `SELECT count(*) FROM outbox_default`))
	morePartitions(t, db)
	fillLog(t, db, leafSize, 0)
	require.Equal(t, leafSize, count(t, db, fmt.Sprintf(`SELECT count(*) FROM outbox WHERE position > %d`, 6*leafSize)))
}

func TestMaintain_DropsWhatIsPastTheRetention(t *testing.T) {
	t.Parallel()
	for retention, dropped := range map[time.Duration]bool{pgstore.Forever: false, 0: false, time.Minute: true} {
		db := harness.NewDatabase(t).DB
		smallPartitions(t, db)
		fillLog(t, db, leafSize, time.Hour)
		setCursor(t, db, "a", outbox.Cursor{Position: leafSize})
		session, err := newStore(t, db, pgstore.Config{Retention: retention}).Acquire(t.Context(), "a", "me", time.Minute)
		require.NoError(t, err)
		require.NoError(t, session.(outbox.Maintainer).Maintain(t.Context()))
		require.NoError(t, session.Release(t.Context()))
		require.Equal(t, dropped, count(t, db, `SELECT count(*) FROM outbox`) == 1, "retention %s", retention)
	}
}
