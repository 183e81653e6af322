package e2e

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/stretchr/testify/require"
)

// leaf is how many positions a partition of the retention test takes.
const leaf = 1000

// smallPartitions has the log kept in small partitions, 100 of them ahead: a relay
// makes them once a minute, and the writers of the test, who pause, cannot use up so
// many positions in two. Rows beyond them would stand in the default partition, which
// is not dropped. Relays and `millrace partitions make` leave both numbers to the
// defaults of the SQL function.
func (p *pipe) smallPartitions(t *testing.T) {
	t.Helper()
	for _, name := range column(t, p.db.DB, `SELECT name FROM outbox_partitions WHERE lo IS NOT NULL`) {
		_, err := p.db.DB.Exec(`DROP TABLE ` + pq.QuoteIdentifier(name))
		require.NoError(t, err)
	}
	var definition string
	err := p.db.DB.QueryRow(`SELECT pg_get_functiondef('outbox_make_partitions(integer, bigint)'::regprocedure)`).Scan(&definition)
	require.NoError(t, err)
	smaller := strings.NewReplacer("ahead integer DEFAULT 4", "ahead integer DEFAULT 100", "DEFAULT 4000000", fmt.Sprint("DEFAULT ", leaf))
	_, err = p.db.DB.Exec(smaller.Replace(definition))
	require.NoError(t, err)
	code, _, stderr := p.millrace(t, "partitions", "make")
	require.Zero(t, code, stderr)
	require.Greater(t, len(column(t, p.db.DB, `SELECT name FROM outbox_partitions WHERE lo IS NOT NULL`)), 10, "they are small")
}

// retentionChecker maintains the log as an impatient cron job would, many times a
// second, beside what the relays do by themselves. It remembers which partitions
// it saw.
type retentionChecker struct {
	db   *sql.DB
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup

	drops atomic.Bool // makes and drops, too

	mu      sync.Mutex
	seen    map[string]bool
	checks  int
	refused int // for an open transaction
	broken  error
}

// retentionChecker starts one, which changes nothing until drops is set.
func (p *pipe) retentionChecker(t *testing.T) *retentionChecker {
	w := &retentionChecker{db: p.db.DB, stop: make(chan struct{}), seen: map[string]bool{}}
	w.done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if err := w.check(); err != nil {
				w.mu.Lock()
				w.broken = err
				w.mu.Unlock()
				return
			}
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
		}
	})
	t.Cleanup(w.end)
	return w
}

func (w *retentionChecker) end() {
	w.once.Do(func() { close(w.stop) })
	w.done.Wait()
}

func (w *retentionChecker) check() error {
	var names []string
	if err := w.db.QueryRow(`SELECT coalesce(array_agg(name), '{}') FROM outbox_partitions`).Scan(pq.Array(&names)); err != nil {
		return err
	}
	gaveUp := 0
	if w.drops.Load() {
		for _, act := range []string{
			`SELECT count(outbox_make_partitions())`, `SELECT count(*) FROM outbox_drop_partitions('1 second')`,
		} {
			_, err := w.db.Exec(act)
			switch {
			case pq.As(err, pqerror.LockNotAvailable) != nil:
				gaveUp++
			case err != nil:
				return fmt.Errorf("%s: %w", act, err)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		w.seen[name] = true
	}
	w.checks++
	w.refused += gaveUp
	return nil
}

// await waits until n more checks are done.
func (w *retentionChecker) await(t *testing.T, n int) {
	t.Helper()
	upto := w.at(t) + n
	until(t, liveness, "the log was checked", func() bool { return w.at(t) >= upto })
}

func (w *retentionChecker) at(t *testing.T) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	require.NoError(t, w.broken)
	return w.checks
}

// dropped lists the partitions that were seen and are no more.
func (w *retentionChecker) dropped(t *testing.T) []string {
	t.Helper()
	w.mu.Lock()
	seen := maps.Clone(w.seen)
	w.mu.Unlock()
	for _, name := range column(t, w.db, `SELECT name FROM outbox_partitions`) {
		delete(seen, name)
	}
	return slices.Sorted(maps.Keys(seen))
}

// awaitDropped waits until n more partitions are gone.
func (w *retentionChecker) awaitDropped(t *testing.T, n int) {
	t.Helper()
	upto := len(w.dropped(t)) + n
	until(t, liveness, "partitions that may go do", func() bool { w.at(t); return len(w.dropped(t)) >= upto })
}

// kept is what `millrace partitions` says of the partition of a position.
func (p *pipe) kept(t *testing.T, position int64) (why string) {
	t.Helper()
	var all []struct {
		From, To int64
		Why      string
	}
	code, out, stderr := p.millrace(t, "partitions", "--retention", "1s", "--json")
	require.Zero(t, code, stderr)
	require.NoError(t, json.Unmarshal([]byte(out), &all))
	for _, one := range all {
		if one.From <= position && position < one.To {
			return one.Why
		}
	}
	require.Failf(t, "its partition is gone", "position %d", position)
	return ""
}

// delivered is the position up to which a relay has delivered everything.
func (p *pipe) delivered(t *testing.T, relay string) (position int64) {
	t.Helper()
	err := p.db.DB.QueryRow(`SELECT coalesce(max(outbox_delivered_to(position, gaps)), 0) FROM outbox_cursor WHERE relay = $1`, relay).Scan(&position)
	require.NoError(t, err)
	return position
}

// holds demands that the log still has every one of the events.
func (p *pipe) holds(t *testing.T, ids []string, why string) {
	t.Helper()
	missing := column(t, p.db.DB, `SELECT id FROM unnest($1::text[]) id EXCEPT SELECT event_id::text FROM outbox`, pq.Array(ids))
	require.Empty(t, missing, "%s: of %d events these are gone from the log, and more: %s", why, len(ids), missing[:min(5, len(missing))])
}
