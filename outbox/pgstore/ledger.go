package pgstore

import (
	"slices"
	"strings"

	"github.com/millrace-go/millrace/outbox"
)

// ledger decides what a reader of the log may count as delivered. It is the gap
// ledger: a position that no snapshot has shown yet stays a gap until every
// transaction that could still fill it has ended. It does no I/O. Scripts that show
// it at work are in testdata/ledger.
//
// One poll is
//
//	p := l.observe(holders, guarded)  // (a): who holds the sequence's lock now
//	l.apply(found, cut)               // (b): what a later snapshot shows of p.ranges and the tail
//
// nextval takes a ROW EXCLUSIVE lock on the sequence before it draws a position, and
// the top transaction keeps that lock until its commit is visible. So a transaction
// that is missing from (a) has ended, and (b), whose snapshot is younger, shows its
// row or never will. The suspects of a gap are the holders at the first (a) after
// the poll that found it.
type ledger struct {
	high    int64
	ranges  []outbox.Range // open gaps; replaced, never changed, so that cursors may share it
	cohorts []*cohort      // of each range, the transactions that may still fill it
}

// cohort holds the suspects of all gaps that one poll found.
type cohort struct {
	known    bool              // an (a) has named the suspects
	suspects map[string]string // virtual transaction -> xid8, or "" if it has none yet
	final    bool              // at the last (a) no suspect was left
	dirty    bool              // a suspect has gone since the last uncut probe
}

// holder is a transaction that holds the sequence's lock.
type holder struct {
	virtual string // virtualtransaction: "3/72"; "-1/…" for one prepared before a crash
	xid     string // xid8 as decimal text, "" if none is assigned
}

// orphan reports a prepared transaction that lost its virtual transaction in a
// crash: it may be a suspect of any gap.
func (h holder) orphan() bool { return strings.HasPrefix(h.virtual, "-1/") }

// newLedger starts from a saved cursor. The suspects of its gaps are not known.
func newLedger(c outbox.Cursor) *ledger {
	l := &ledger{high: c.Position, ranges: slices.Clone(c.Gaps)}
	unknown := &cohort{}
	for range l.ranges {
		l.cohorts = append(l.cohorts, unknown)
	}
	return l
}

// cursor returns what holds when everything that was read is delivered.
func (l *ledger) cursor() outbox.Cursor { return outbox.Cursor{Position: l.high, Gaps: l.ranges} }

// probe is what (b) must read: the ranges, and, if some gaps are left out, the xids
// of their suspects. If one of these has ended in (b)'s snapshot, its answer is void
// and (b) must be asked again with all ranges.
type probe struct {
	ranges  []outbox.Range
	skipped []string // xid8s; nil if nothing is left out
}

// observe takes the holders of (a), which must have been read after the last (b).
// guarded allows it to leave out gaps whose suspects all still run.
func (l *ledger) observe(holders []holder, guarded bool) probe {
	now := make(map[string]string, len(holders))
	orphan := false
	for _, h := range holders {
		now[h.virtual] = h.xid
		orphan = orphan || h.orphan()
	}
	seen := map[*cohort]bool{} // -> must be probed
	for _, c := range l.cohorts {
		if _, done := seen[c]; !done {
			seen[c] = c.observe(now, orphan)
		}
	}
	if !guarded {
		return probe{ranges: l.ranges}
	}
	return l.choose(seen)
}

// observe narrows the suspects to those still there and reports whether the
// gaps of c must be probed.
func (c *cohort) observe(now map[string]string, orphan bool) (must bool) {
	if !c.known {
		c.known, c.dirty = true, true
		c.suspects = make(map[string]string, len(now))
		for v, xid := range now {
			c.suspects[v] = xid
		}
	}
	noXid := false
	for v := range c.suspects {
		xid, runs := now[v]
		if !runs {
			delete(c.suspects, v)
			c.dirty = true
			continue
		}
		c.suspects[v] = xid
		noXid = noXid || xid == ""
	}
	c.final = len(c.suspects) == 0 && !orphan
	return c.final || c.dirty || noXid || orphan
}

// choose splits the gaps into those to probe and those to guard.
func (l *ledger) choose(must map[*cohort]bool) probe {
	p := probe{ranges: make([]outbox.Range, 0, len(l.ranges))}
	xids := map[string]bool{}
	for i, r := range l.ranges {
		c := l.cohorts[i]
		if must[c] {
			p.ranges = append(p.ranges, r)
			continue
		}
		for _, xid := range c.suspects {
			xids[xid] = true
		}
	}
	if len(p.ranges) == len(l.ranges) {
		return p
	}
	p.skipped = make([]string, 0, len(xids))
	for xid := range xids {
		p.skipped = append(p.skipped, xid)
	}
	slices.Sort(p.skipped)
	return p
}

// apply takes the positions that (b) returned, in rising order. cut says that there
// may have been more after the last one: then (b) covered only what lies at or below
// it, and the high mark moves only if (b) reached the tail. apply reports whether the
// cursor changed.
func (l *ledger) apply(found []int64, cut bool) (moved bool) {
	covered := int64(1<<63 - 1)
	if cut {
		covered = found[len(found)-1]
	}
	inGaps, _ := slices.BinarySearch(found, l.high+1)
	moved = l.fill(found[:inGaps], covered)
	if tail := found[inGaps:]; len(tail) > 0 {
		moved = true
		l.extend(tail)
	}
	// A read that was cut short did not show all rows of a suspect that has ended:
	// its cohort stays dirty and is probed again.
	if !cut {
		for _, c := range l.cohorts {
			c.dirty = false
		}
	}
	return moved
}

// fill takes found positions out of the gaps and closes final gaps up to covered.
func (l *ledger) fill(found []int64, covered int64) (moved bool) {
	if len(l.ranges) == 0 {
		return false
	}
	var ranges []outbox.Range
	var cohorts []*cohort
	keep := func(lo, hi int64, c *cohort) {
		if lo <= hi {
			ranges, cohorts = append(ranges, outbox.Range{Lo: lo, Hi: hi}), append(cohorts, c)
		}
	}
	for i, r := range l.ranges {
		c, lo := l.cohorts[i], r.Lo
		for len(found) > 0 && found[0] <= r.Hi {
			if !c.final {
				keep(lo, found[0]-1, c)
			}
			lo, found, moved = found[0]+1, found[1:], true
		}
		if c.final && lo <= covered {
			lo, moved = min(r.Hi, covered)+1, true
		}
		keep(lo, r.Hi, c)
	}
	if moved {
		l.ranges, l.cohorts = ranges, cohorts
	}
	return moved
}

// extend moves the high mark to the last of tail; what is missing on the way
// becomes gaps whose suspects the next (a) names.
func (l *ledger) extend(tail []int64) {
	fresh := &cohort{}
	ranges, cohorts := l.ranges, l.cohorts
	shared := true // ranges may be in use by a cursor
	for _, p := range tail {
		if p > l.high+1 {
			if shared {
				ranges, cohorts, shared = slices.Clone(ranges), slices.Clone(cohorts), false
			}
			ranges = append(ranges, outbox.Range{Lo: l.high + 1, Hi: p - 1})
			cohorts = append(cohorts, fresh)
		}
		l.high = p
	}
	l.ranges, l.cohorts = ranges, cohorts
}
