package pgstore

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
)

// plant is a mistake that would be easy to make, and a play on which it shows.
type plant struct {
	name string
	poll pollFunc                              // the mistaken reader; nil if only break is wrong
	base pollFunc                              // the right one; nil is soundPoll
	flaw func(context.Context, *session) error // what is wrong besides the poll, once the guard has passed it
	play func(*stage) error
}

func plants() []plant {
	return []plant{
		{name: "no gap tracking", poll: pollWithoutGaps, play: playStraggler},
		{name: "gap closed one poll early", poll: pollClosingEarly, play: playStraggler},
		{name: "holders seen after the rows", poll: pollSwapped, play: playCommitBetween},
		{name: "holders and rows in one repeatable read transaction", poll: pollRepeatableRead, play: playCommitBetween},
		{name: "two snapshots, gaps first", poll: pollGapsFirst, play: playSuccessorBetween},
		{name: "prepared transactions ignored", poll: pollIgnoringPrepared, play: playPrepared},
		{name: "sequence with cache 20", flaw: cacheSequence, play: playCached},
		{name: "leaf inserts, parent table watched", flaw: watchParent, play: playLeaf},
		{name: "guarded probe forgets a cut read", poll: pollForgettingCut, base: guardedPoll, play: playCut},
		{name: "gaps left out without the guard", poll: pollWithoutGuard, base: guardedPoll, play: playSuccessorBetween},
	}
}

func TestPlantedBugs_AreCaught(t *testing.T) {
	t.Parallel()
	for _, p := range plants() {
		t.Run(strings.ReplaceAll(p.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			if p.base == nil {
				p.base = soundPoll
			}
			sound := newStage(t, p.base)
			require.NoError(t, sound.perform(p.play), "the rule without the bug")

			if p.poll == nil {
				p.poll = p.base
			}
			broken := newStage(t, p.poll)
			if p.flaw != nil {
				require.NoError(t, p.flaw(t.Context(), broken.session))
			}
			err := broken.perform(p.play)
			require.ErrorIs(t, err, errBroken)
			t.Log("caught:", err)
		})
	}
}

func (s *stage) perform(play func(*stage) error) error {
	if err := play(s); err != nil {
		return err
	}
	return s.finish()
}

// playStraggler: a writer commits after somebody with a later position, and
// after the reader has looked at it twice.
func playStraggler(s *stage) error {
	straggler := s.begin().write("a", 1)
	s.begin().write("b", 1).commit()
	if err := s.polls(2); err != nil {
		return err
	}
	straggler.commit()
	return s.polls(2)
}

// playCommitBetween: a straggler commits in the middle of a poll.
func playCommitBetween(s *stage) error {
	straggler := s.begin().write("a", 1)
	s.begin().write("b", 1).commit()
	if err := s.polls(2); err != nil {
		return err
	}
	return s.poll(1000, straggler.commit)
}

// playSuccessorBetween: in the middle of a poll a straggler commits, and then
// the next event of its key.
func playSuccessorBetween(s *stage) error {
	straggler := s.begin().write("a", 1)
	s.begin().write("b", 1).commit()
	if err := s.polls(2); err != nil {
		return err
	}
	return s.poll(1000, func() {
		straggler.commit()
		s.begin().write("a", 2).commit()
	})
}

// playPrepared: a straggler is prepared, and committed by somebody else.
func playPrepared(s *stage) error {
	straggler := s.begin().write("a", 1)
	s.begin().write("b", 1).commit()
	name := "stage_" + s.databaseName()
	straggler.prepare(name)
	err := s.polls(3)
	straggler.commitPrepared(name)
	return err
}

// playCached: a connection goes on with positions that it drew in an earlier transaction.
func playCached(s *stage) error {
	first := s.begin().write("a", 1)
	first.commit()
	s.begin().write("b", 1).commit()
	if err := s.polls(3); err != nil {
		return err
	}
	first.again().write("a", 2).commit()
	return nil
}

// playLeaf: a straggler inserts into a partition directly.
func playLeaf(s *stage) error {
	s.exec("ALTER TABLE outbox_p0 ALTER position SET DEFAULT nextval('outbox_position_seq')")
	straggler := s.begin().write("a", 1, "outbox_p0")
	s.begin().write("b", 1).commit()
	if err := s.polls(3); err != nil {
		return err
	}
	straggler.commit()
	return nil
}

// playCut: two stragglers end, a third runs on; the next read is cut before it
// reaches the second one's row, and then the next event of that row's key comes.
func playCut(s *stage) error {
	s.begin().write("long", 1)
	one, two := s.begin().write("a", 1).write("a", 2), s.begin().write("b", 1)
	s.begin().write("c", 1).commit()
	if err := s.polls(2); err != nil {
		return err
	}
	one.commit()
	two.commit()
	if err := s.poll(2); err != nil {
		return err
	}
	s.begin().write("b", 2).commit()
	return s.polls(1)
}

func (s *stage) polls(n int) error {
	for range n {
		if err := s.poll(1000); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) databaseName() (name string) {
	require.NoError(s.t, s.db.QueryRowContext(s.t.Context(), "SELECT current_database()").Scan(&name))
	return name
}

func cacheSequence(ctx context.Context, s *session) error {
	_, err := s.control.ExecContext(ctx, "ALTER SEQUENCE outbox_position_seq CACHE 20")
	return err
}

func watchParent(ctx context.Context, s *session) error {
	return s.control.QueryRowContext(ctx, "SELECT 'outbox'::regclass::oid").Scan(&s.reading.rel.sequence)
}

func pollWithoutGaps(ctx context.Context, r *reading, conn *sql.Conn, between func(), limit int) (outbox.Batch, error) {
	r.ledger.ranges, r.ledger.cohorts = nil, nil
	return soundPoll(ctx, r, conn, between, limit)
}

// pollClosingEarly closes a gap as soon as nobody is left who could fill it,
// without looking at it once more.
func pollClosingEarly(ctx context.Context, r *reading, _ *sql.Conn, between func(), limit int) (outbox.Batch, error) {
	if _, err := r.observe(ctx); err != nil {
		return outbox.Batch{}, err
	}
	r.ledger.fill(nil, 1<<62)
	between()
	return apply(ctx, r, probe{ranges: r.ledger.ranges}, limit, func([]int64) {})
}

// pollSwapped sees the rows first and then the holders.
func pollSwapped(ctx context.Context, r *reading, _ *sql.Conn, between func(), limit int) (outbox.Batch, error) {
	var err error
	batch, applyErr := apply(ctx, r, probe{ranges: r.ledger.ranges}, limit, func([]int64) {
		between()
		_, err = r.observe(ctx)
	})
	if err != nil {
		return batch, err
	}
	return batch, applyErr
}

// pollRepeatableRead has one snapshot for all its statements.
func pollRepeatableRead(ctx context.Context, r *reading, conn *sql.Conn, between func(), limit int) (b outbox.Batch, err error) {
	if _, err := conn.ExecContext(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ"); err != nil {
		return b, err
	}
	if _, err := sequenceBehind(ctx, conn, r.ledger.high); err != nil { // the first statement takes the snapshot
		return b, err
	}
	between()
	if b, err = soundPoll(ctx, r, conn, func() {}, limit); err != nil {
		return b, err
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return b, err
}

// pollGapsFirst reads the gaps in one snapshot and the tail in the next.
func pollGapsFirst(ctx context.Context, r *reading, _ *sql.Conn, between func(), limit int) (outbox.Batch, error) {
	p, err := r.observe(ctx)
	if err != nil {
		return outbox.Batch{}, err
	}
	entries, _, err := r.read(ctx, p, limit, 1<<30)
	if err != nil {
		return outbox.Batch{}, err
	}
	inGaps, _ := slices.BinarySearchFunc(entries, r.ledger.high+1, func(e outbox.Entry, p int64) int { return int(e.Position - p) })
	entries = entries[:inGaps]
	between()
	cut := inGaps == limit
	if !cut {
		var tail []outbox.Entry
		if tail, cut, err = r.read(ctx, probe{}, limit-inGaps, 1<<30); err != nil {
			return outbox.Batch{}, err
		}
		entries = append(entries, tail...)
	}
	r.ledger.apply(positions(entries), cut)
	return outbox.Batch{Entries: entries, Cursor: r.ledger.cursor()}, nil
}

// pollIgnoringPrepared takes only those for holders that a backend runs.
func pollIgnoringPrepared(ctx context.Context, r *reading, conn *sql.Conn, between func(), limit int) (outbox.Batch, error) {
	running, err := conn.PrepareContext(ctx, holdersSQL+" AND pid IS NOT NULL")
	if err != nil {
		return outbox.Batch{}, err
	}
	defer running.Close()
	mistaken := *r
	mistaken.holders, mistaken.guardFrom = running, 1<<30
	return soundPoll(ctx, &mistaken, conn, between, limit)
}

// guardedPoll leaves gaps out however few they are.
func guardedPoll(ctx context.Context, r *reading, _ *sql.Conn, between func(), limit int) (outbox.Batch, error) {
	holders, err := r.readHoldersXid(ctx)
	if err != nil {
		return outbox.Batch{}, err
	}
	p := r.ledger.observe(holders, true)
	between()
	return apply(ctx, r, p, limit, func([]int64) {})
}

func pollForgettingCut(ctx context.Context, r *reading, conn *sql.Conn, between func(), limit int) (outbox.Batch, error) {
	batch, err := guardedPoll(ctx, r, conn, between, limit)
	for _, c := range r.ledger.cohorts {
		c.dirty = false
	}
	return batch, err
}

func pollWithoutGuard(ctx context.Context, r *reading, _ *sql.Conn, between func(), limit int) (outbox.Batch, error) {
	holders, err := r.readHoldersXid(ctx)
	if err != nil {
		return outbox.Batch{}, err
	}
	p := r.ledger.observe(holders, true)
	between()
	return apply(ctx, r, probe{ranges: p.ranges}, limit, func([]int64) {})
}
