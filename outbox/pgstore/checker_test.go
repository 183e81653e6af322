package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// checker lets hostile writers and two readers loose on a Postgres server and
// compares what was delivered with what was committed.
type checker struct {
	seed  uint64
	rule  pollRule
	alone bool                                  // one reader reads all the time
	flaw  func(context.Context, *session) error // done to a session once it is open; may be nil
	store *Store                                // its pool is the readers'

	writers, admin, other *sql.DB
	hard                  *sql.Conn
	verdict               *verdict
	prepared              chan string
	stop                  chan struct{}

	mu     sync.Mutex
	counts map[string]int
}

// pollRule is one poll of a reader: the production rule, or one with a planted bug.
type pollRule func(ctx context.Context, s *session, limit, maxBytes int) (outbox.Batch, error)

func productionRule(ctx context.Context, s *session, limit, maxBytes int) (outbox.Batch, error) {
	return s.reading.poll(ctx, limit, maxBytes)
}

// checkerServer starts a server that only checkers use: they disturb the whole of it.
func checkerServer(t *testing.T) *harness.PostgresServer {
	return harness.PrivatePostgres(t, harness.PostgresConfig{Settings: map[string]string{
		"deadlock_timeout": "20ms", "autovacuum_naptime": "5s", "max_wal_size": "4GB"}})
}

func newChecker(t *testing.T, server *harness.PostgresServer, seed uint64, rule pollRule) *checker {
	dsn := harness.DatabaseOn(t, server).DSN
	open := func(dsn string, options ...string) *sql.DB {
		db, err := sql.Open("postgres", withOptions(t, dsn, options...))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		return db
	}
	c := &checker{seed: seed, rule: rule, verdict: newVerdict(), counts: map[string]int{},
		prepared: make(chan string, 40), stop: make(chan struct{})}
	c.writers = open(dsn, "application_name", "ledger writer", "synchronous_commit", "off")
	c.admin, c.other = open(dsn), open(server.DSN())
	readers, err := Open(dsn, OpenConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, readers.Close()) })
	c.store, err = New(readers, Config{})
	require.NoError(t, err)
	c.hard, err = c.admin.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.hard.Close() })
	createCheckerSchema(t.Context(), t, c.admin)
	return c
}

func (c *checker) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

func (c *checker) count(what string) { c.add(what, 1) }

func (c *checker) add(what string, n int) {
	c.mu.Lock()
	c.counts[what] += n
	c.mu.Unlock()
}

func (c *checker) atMost(what string, n int) {
	c.mu.Lock()
	c.counts[what] = max(c.counts[what], n)
	c.mu.Unlock()
}

// start starts everybody who writes or disturbs. The channel yields their first
// error, or nil, when all have ended.
func (c *checker) start(ctx context.Context) <-chan error {
	work, resolver := errgroup.Group{}, errgroup.Group{}
	stream := uint64(0)
	random := func() *rand.Rand { stream++; return newRand(c.seed, stream) }
	writer := func(pick func(*rand.Rand) []string, twoPhase bool) *writer {
		return &writer{checker: c, rng: random(), pick: pick, twoPhase: twoPhase}
	}
	for range 16 {
		w := writer(pickTwo, false)
		work.Go(func() error { return w.run(ctx) })
	}
	for i := range 5 {
		chaser := writer(func(rng *rand.Rand) []string { return []string{fmt.Sprint("long", i), plainKey(rng)} }, false)
		long := writer(func(*rand.Rand) []string { return []string{fmt.Sprint("long", i)} }, i == 4)
		work.Go(func() error { return long.long(ctx) })
		if i < 3 {
			two := writer(pickTwo, true)
			work.Go(func() error { return chaser.run(ctx) })
			work.Go(func() error { return two.run(ctx) })
		}
	}
	for _, act := range []func(context.Context, *rand.Rand) error{
		c.every(150*time.Millisecond, c.terminate), c.every(60*time.Millisecond, c.lockHard), c.every(time.Second, c.vacuum),
		c.every(200*time.Millisecond, c.maintain), c.every(500*time.Millisecond, c.idle), c.elsewhere} {
		rng := random()
		work.Go(func() error { return act(ctx, rng) })
	}
	for range 2 {
		rng := random()
		resolver.Go(func() error { return c.resolve(ctx, rng) })
	}
	done := make(chan error, 1)
	go func() {
		err := work.Wait()
		close(c.prepared)
		if ended := resolver.Wait(); err == nil {
			err = ended
		}
		done <- err
		close(done)
	}()
	return done
}

func plainKey(rng *rand.Rand) string { return fmt.Sprint("plain", rng.IntN(plainKeys)) }

// pickTwo picks two keys in any order: now and then two writers lock the same
// two in opposite orders.
func pickTwo(rng *rand.Rand) []string {
	kind, n := "plain", plainKeys
	if chance(rng, 8) {
		kind, n = "hot", hotKeys
	}
	first := rng.IntN(n)
	second := (first + 1 + rng.IntN(n-1)) % n
	return []string{fmt.Sprint(kind, first), fmt.Sprint(kind, second)}
}

// run lets the readers deliver at least events events, then stops the writers
// and delivers the rest. It returns the first violation.
func (c *checker) run(ctx context.Context, events int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := c.start(ctx)
	r := &readers{checker: c, rng: newRand(c.seed, 0)}
	defer r.leave()
	broken := r.until(ctx, func() bool { return len(c.verdict.delivered) >= events }, done)
	close(c.stop)
	if broken != nil {
		<-done
		return broken
	}
	if err := r.whileWriting(ctx, done); err != nil {
		return err
	}
	if err := r.drain(ctx); err != nil {
		return err
	}
	committed, err := c.truth(ctx)
	if err != nil {
		return err
	}
	return c.verdict.finish(committed)
}

func (c *checker) truth(ctx context.Context) (committed []event, err error) {
	rows, err := c.admin.QueryContext(ctx, "SELECT event_id, key, version FROM ledger_events")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e event
		if err := rows.Scan(&e.id, &e.key, &e.version); err != nil {
			return nil, err
		}
		committed = append(committed, e)
	}
	return committed, rows.Err()
}

// report logs what happened.
func (c *checker) report(ctx context.Context, t *testing.T, took time.Duration) {
	var last, rows int
	require.NoError(t, c.admin.QueryRowContext(ctx, "SELECT (SELECT last_value FROM outbox_position_seq), count(*) FROM outbox").Scan(&last, &rows))
	t.Logf("%d events in %.1f s; %.1f %% of %d positions never filled", len(c.verdict.delivered), took.Seconds(), 100*float64(last-rows)/float64(last), last)
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		t.Logf("%8d %s", c.counts[what], what)
	}
}

// checkedEvents is the size of a run: MILLRACE_CHECKER_EVENTS, or 200,000.
func checkedEvents(t *testing.T) int {
	if text := os.Getenv("MILLRACE_CHECKER_EVENTS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err, "MILLRACE_CHECKER_EVENTS")
		return n
	}
	if testing.Short() {
		return 20_000
	}
	return 200_000
}

func TestChecker_HostileWritersLoseNothing(t *testing.T) {
	t.Parallel()
	c := newChecker(t, checkerServer(t), newSeed(t), productionRule)
	began := time.Now()
	err := c.run(t.Context(), checkedEvents(t))
	c.report(t.Context(), t, time.Since(began))
	require.NoError(t, err)
	if len(c.verdict.delivered) < 100_000 {
		return // too short to meet everything for certain
	}
	for _, what := range []string{"backends terminated", "copies", "deadlocks", "function inserts", "leaf inserts", "library appends", "long transactions",
		"prepared transactions", "rollbacks", "savepoints", "strong locks tried", "trigger inserts", "vacuums",
		"hand-overs", "hand-overs in the middle of a batch", "polls cut", "polls with gaps", "polls guarded"} {
		require.Positive(t, c.counts[what], "the run met no %s", what)
	}
}
