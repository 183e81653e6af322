package outbox

import (
	"cmp"
	"slices"
)

// Range is the positions Lo to Hi, both included.
type Range struct{ Lo, Hi int64 }

// Cursor says what has been delivered: everything at or below Position except
// the gaps. The gaps are disjoint, in rising order and all at or below Position.
// A gap is a position that no transaction has filled yet, or an entry that has
// been read and not been acknowledged.
type Cursor struct {
	Position int64
	Gaps     []Range
}

// Without returns c with the given positions, all at or below c.Position and in
// rising order, counted as not delivered.
func (c Cursor) Without(positions []int64) Cursor {
	if len(positions) == 0 {
		return c
	}
	all := slices.Clone(c.Gaps)
	for _, p := range positions {
		all = append(all, Range{p, p})
	}
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.Lo, b.Lo) })
	return Cursor{Position: c.Position, Gaps: join(all)}
}

// Missing counts the positions in the gaps.
func (c Cursor) Missing() int64 {
	var n int64
	for _, g := range c.Gaps {
		n += g.Hi - g.Lo + 1
	}
	return n
}

// join merges overlapping and adjacent ranges of a list that is sorted by Lo.
func join(sorted []Range) []Range {
	out := sorted[:0]
	for _, r := range sorted {
		if n := len(out); n > 0 && r.Lo <= out[n-1].Hi+1 {
			out[n-1].Hi = max(out[n-1].Hi, r.Hi)
			continue
		}
		out = append(out, r)
	}
	return out
}
