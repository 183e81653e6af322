package pgstore

import (
	"context"
	"database/sql"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// stage is a database on which a test directs each step of writers and reader.
type stage struct {
	t         *testing.T
	db        *sql.DB
	session   *session
	reading   *reading
	rule      pollFunc
	verdict   *verdict
	committed []event
	actors    []*actor
}

// pollFunc is one poll of a reader: sound or with a planted bug. between is
// called once, between the two statements whose order matters.
type pollFunc func(ctx context.Context, r *reading, conn *sql.Conn, between func(), limit int) (outbox.Batch, error)

func newStage(t *testing.T, poll pollFunc) *stage {
	return newStageOn(t, harness.NewDatabase(t).DB, poll)
}

func newStageOn(t *testing.T, db *sql.DB, poll pollFunc) *stage {
	s := &stage{t: t, db: db, rule: poll, verdict: newVerdict()}
	s.acquire("reader")
	t.Cleanup(func() { require.NoError(t, s.session.Release(context.Background())) })
	return s
}

// acquire makes owner the reader, whether or not the one before lives.
func (s *stage) acquire(owner string) {
	store, err := New(s.db, Config{})
	require.NoError(s.t, err)
	if s.session != nil {
		s.session.close()
		s.exec("UPDATE outbox_cursor SET lease_until = '-infinity'")
	}
	opened, err := store.Acquire(s.t.Context(), "stage", owner, time.Minute)
	require.NoError(s.t, err)
	s.session = opened.(*session)
	s.reading = &s.session.reading
}

// save makes the reader's cursor durable.
func (s *stage) save() {
	require.NoError(s.t, s.session.Save(s.t.Context(), outbox.Checkpoint{Cursor: s.reading.ledger.cursor()}))
}

func (s *stage) exec(query string) {
	_, err := s.db.ExecContext(s.t.Context(), query)
	require.NoError(s.t, err)
}

// poll polls once and hands over what came. It returns the first violation.
func (s *stage) poll(limit int, between ...func()) error {
	once := func() {
		for _, f := range between {
			f()
		}
	}
	batch, err := s.rule(s.t.Context(), s.reading, s.session.reader, once, limit)
	require.NoError(s.t, err)
	for i := range batch.Entries {
		if err := s.verdict.deliver(eventOf(&batch.Entries[i])); err != nil {
			return err
		}
	}
	return nil
}

func eventOf(e *outbox.Entry) event { return event{e.ID, e.Key, e.AggregateVersion} }

// finish ends what runs and polls until all gaps are closed.
func (s *stage) finish() error {
	for _, a := range s.actors {
		a.end("ROLLBACK")
	}
	for range 10 {
		if err := s.poll(1000); err != nil {
			return err
		}
	}
	require.Empty(s.t, s.reading.ledger.ranges, "gaps never close")
	return s.verdict.finish(s.committed)
}

// actor is a writer's connection with an open transaction.
type actor struct {
	stage *stage
	conn  *sql.Conn
	wrote []event
	open  bool
}

func (s *stage) begin() *actor {
	conn, err := s.db.Conn(s.t.Context())
	require.NoError(s.t, err)
	a := &actor{stage: s, conn: conn}
	s.t.Cleanup(func() { _ = conn.Close() })
	s.actors = append(s.actors, a)
	return a.again()
}

// again begins the next transaction of the same connection.
func (a *actor) again() *actor {
	a.exec("BEGIN")
	a.open = true
	return a
}

func (a *actor) exec(query string) {
	_, err := a.conn.ExecContext(a.stage.t.Context(), query)
	require.NoError(a.stage.t, err)
}

// write appends version of key, to the outbox or to one of its partitions.
func (a *actor) write(key string, version int64, table ...string) *actor {
	e := event{uuid.New(), key, version}
	query := "INSERT INTO " + append(table, "outbox")[0] + " (event_id, topic, key, aggregate_version) VALUES ($1, 'stage', $2, $3)"
	_, err := a.conn.ExecContext(a.stage.t.Context(), query, e.id, e.key, e.version)
	require.NoError(a.stage.t, err)
	a.wrote = append(a.wrote, e)
	return a
}

func (a *actor) commit() { a.end("COMMIT") }

// prepare leaves the transaction to whichever session commits it by its name.
func (a *actor) prepare(name string) { a.exec("PREPARE TRANSACTION '" + name + "'") }

func (a *actor) commitPrepared(name string) {
	a.stage.exec("COMMIT PREPARED '" + name + "'")
	a.stage.committed = append(a.stage.committed, a.wrote...)
	a.wrote, a.open = nil, false
}

func (a *actor) end(how string) {
	if !a.open {
		return
	}
	a.exec(how)
	if how == "COMMIT" {
		a.stage.committed = append(a.stage.committed, a.wrote...)
	}
	a.wrote, a.open = nil, false
}

// soundPoll is the production rule with a step between (a) and (b).
func soundPoll(ctx context.Context, r *reading, _ *sql.Conn, between func(), limit int) (outbox.Batch, error) {
	p, err := r.observe(ctx)
	if err != nil {
		return outbox.Batch{}, err
	}
	between()
	return apply(ctx, r, p, limit, func([]int64) {})
}

// apply is (b) and its consequences, as poll has them, with a step before the
// ledger learns of the rows.
func apply(ctx context.Context, r *reading, p probe, limit int, before func(found []int64)) (outbox.Batch, error) {
	entries, cut, err := r.read(ctx, p, limit, 1<<30)
	if err != nil {
		return outbox.Batch{}, err
	}
	found := positions(entries)
	before(found)
	r.ledger.apply(found, cut)
	return outbox.Batch{Entries: entries, Cursor: r.ledger.cursor(), More: cut}, nil
}

func positions(entries []outbox.Entry) []int64 {
	found := make([]int64, 0, len(entries))
	for i := range entries {
		found = append(found, entries[i].Position)
	}
	return slices.Clip(found)
}
