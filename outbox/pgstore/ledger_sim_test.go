package pgstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
)

// flaw is a mistake planted in the reader of the simulation.
type flaw string

const (
	sound           flaw = ""
	noTracking      flaw = "no gap tracking"
	closedEarly     flaw = "gap closed one poll early"
	olderSnapshot   flaw = "snapshot older than the look at the holders"
	gapsFirst       flaw = "two snapshots, gaps first"
	preparedIgnored flaw = "prepared transactions ignored"
	orphansIgnored  flaw = "prepared transactions from before a crash ignored"
	suspectsEarly   flaw = "suspects taken before the poll that found the gap"
	cutForgotten    flaw = "guarded probe forgets a cut read"
	cutClosesAll    flaw = "cut read taken for a whole one"
	guardForgotten  flaw = "gaps left out without the guard"
	prefixReversed  flaw = "cursor of an unfinished batch counts all as delivered"
)

// sim is one schedule: a world and a reader with or without a flaw.
type sim struct {
	*world
	flaw    flaw
	ledger  *ledger
	saved   outbox.Cursor
	last    []holder // the holders at the (a) before
	verdict *verdict
}

func (s *sim) poll() error {
	l := s.ledger
	if s.flaw == noTracking {
		l.ranges, l.cohorts = nil, nil
	}
	view := s.clock
	if s.flaw == olderSnapshot {
		s.run(4)
	}
	p := s.observe()
	s.run(4)
	if s.flaw != olderSnapshot {
		view = s.clock
	}
	limit := 1 + s.rng.IntN(4)
	if chance(s.rng, 30) {
		limit = 1000
	}
	rows := s.read(p, view, limit)
	positions := make([]int64, len(rows))
	for i, r := range rows {
		positions[i] = r.position
	}
	cut := len(rows) == limit
	l.apply(positions, cut && s.flaw != cutClosesAll)
	if s.flaw == cutForgotten {
		for _, c := range l.cohorts {
			c.dirty = false
		}
	}
	return s.deliver(rows)
}

// observe is (a), if gaps are open.
func (s *sim) observe() probe {
	l := s.ledger
	if len(l.ranges) == 0 {
		return probe{}
	}
	holders := s.holders()
	holders = slices.DeleteFunc(holders, func(h holder) bool {
		return s.flaw == preparedIgnored && s.isPrepared(h.virtual) || s.flaw == orphansIgnored && h.orphan()
	})
	if s.flaw == suspectsEarly {
		for _, c := range l.cohorts {
			if !c.known {
				c.observe(namesOf(s.last), false)
			}
		}
	}
	s.last = holders
	p := l.observe(holders, chance(s.rng, 50))
	if s.flaw == closedEarly {
		l.fill(nil, 1<<62)
		p = probe{ranges: l.ranges}
	}
	return p
}

// read is (b), in one snapshot, unless the flaw says otherwise.
func (s *sim) read(p probe, view int64, limit int) []*simRow {
	if s.flaw != guardForgotten {
		for _, xid := range p.skipped {
			if end, over := s.ended[xid]; over && end <= view {
				s.run(4)
				p, view = probe{ranges: s.ledger.ranges}, s.clock
				break
			}
		}
	}
	tailView := view
	var found []*simRow
	for _, r := range p.ranges {
		found = append(found, s.between(r, view)...)
	}
	if s.flaw == gapsFirst {
		s.run(4)
		tailView = s.clock
	}
	found = append(found, s.between(outbox.Range{Lo: s.ledger.high + 1, Hi: 1 << 62}, tailView)...)
	return found[:min(limit, len(found))]
}

func (s *sim) between(g outbox.Range, view int64) (found []*simRow) {
	for _, r := range s.rows {
		if g.Lo <= r.position && r.position <= g.Hi && r.visible <= view {
			found = append(found, r)
		}
	}
	return found
}

// deliver delivers rows and saves the cursor. Now and then the reader stops in
// the middle, as a graceful stop may, and another one goes on from what it saved.
func (s *sim) deliver(rows []*simRow) error {
	restart, n := chance(s.rng, 10) && !s.quiet, len(rows)
	if restart {
		n = s.rng.IntN(len(rows) + 1)
	}
	var rest []int64
	for i, r := range rows {
		if i >= n {
			rest = append(rest, r.position)
			continue
		}
		if err := s.verdict.deliver(r.event()); err != nil {
			return err
		}
	}
	s.saved = s.ledger.cursor()
	if s.flaw != prefixReversed {
		s.saved = s.saved.Without(rest)
	}
	if !restart {
		return nil
	}
	gaps, err := decodeGaps(encodeGaps(s.saved.Gaps), s.saved.Position)
	if err != nil {
		return err
	}
	saved := outbox.Cursor{Position: s.saved.Position, Gaps: gaps}
	s.ledger, s.last = newLedger(saved), nil
	return nil
}

// simulate runs one schedule and returns what went wrong.
func simulate(seed, schedule uint64, f flaw) error {
	w := newWorld(newRand(seed, schedule))
	s := &sim{world: w, flaw: f, ledger: newLedger(outbox.Cursor{}), verdict: newVerdict()}
	for range 50 {
		s.run(20)
		if err := s.poll(); err != nil {
			return err
		}
	}
	s.settle()
	for range len(s.rows) + 3 { // each shows a row at least, the last ones close the gaps
		if err := s.poll(); err != nil {
			return err
		}
	}
	var committed []event
	for _, r := range s.rows {
		committed = append(committed, r.event())
	}
	if err := s.verdict.finish(committed); err != nil {
		return err
	}
	if gaps := s.ledger.cursor().Missing(); gaps > 0 {
		return fmt.Errorf("%d gaps never close", gaps)
	}
	return nil
}

func TestLedger_LosesNothingUnderRandomSchedules(t *testing.T) {
	t.Parallel()
	seed, schedules := newSeed(t), uint64(20_000)
	if testing.Short() {
		schedules = 2_000
	}
	for i := range schedules {
		require.NoError(t, simulate(seed, i, sound), "schedule %d", i)
	}
}

func TestLedger_SimulationCatchesPlantedBugs(t *testing.T) {
	t.Parallel()
	seed := newSeed(t)
	for _, f := range []flaw{noTracking, closedEarly, olderSnapshot, gapsFirst, preparedIgnored, orphansIgnored,
		suspectsEarly, cutForgotten, cutClosesAll, guardForgotten, prefixReversed} {
		t.Run(strings.ReplaceAll(string(f), " ", "_"), func(t *testing.T) {
			t.Parallel()
			for i := range uint64(100_000) {
				if err := simulate(seed, i, f); errors.Is(err, errBroken) {
					t.Logf("caught by schedule %d: %v", i, err)
					return
				}
			}
			require.Fail(t, "no schedule shows the bug")
		})
	}
}

func (w *world) isPrepared(virtual string) bool {
	return slices.ContainsFunc(w.live, func(tx *simTx) bool { return tx.virtual == virtual && tx.prepared })
}

func namesOf(holders []holder) map[string]string {
	names := make(map[string]string, len(holders))
	for _, h := range holders {
		names[h.virtual] = h.xid
	}
	return names
}
