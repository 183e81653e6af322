package outbox

import (
	"cmp"
	"encoding/binary"
	"errors"
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

// MarshalGaps encodes the gaps as unsigned varints: for each gap its distance
// from the end of the one before and its length less one. Two or three bytes a
// gap are usual.
func (c Cursor) MarshalGaps() []byte {
	b := make([]byte, 0, 3*len(c.Gaps))
	var end int64
	for _, g := range c.Gaps {
		b = binary.AppendUvarint(b, uint64(g.Lo-end))
		b = binary.AppendUvarint(b, uint64(g.Hi-g.Lo))
		end = g.Hi
	}
	return b
}

var errGaps = errors.New("gaps of the cursor are not readable")

// UnmarshalGaps is the inverse of MarshalGaps. It refuses gaps that are not
// disjoint, rising, or at or below c.Position.
func (c *Cursor) UnmarshalGaps(b []byte) error {
	c.Gaps = nil
	var end int64
	for len(b) > 0 {
		skip, n := binary.Uvarint(b)
		if n <= 0 {
			return errGaps
		}
		length, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return errGaps
		}
		b = b[n+m:]
		g := Range{Lo: end + int64(skip), Hi: end + int64(skip) + int64(length)}
		if g.Lo <= end || g.Hi < g.Lo || g.Hi > c.Position {
			return errGaps
		}
		c.Gaps = append(c.Gaps, g)
		end = g.Hi
	}
	return nil
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
