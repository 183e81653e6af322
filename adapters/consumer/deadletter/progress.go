package deadletter

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// maxProgressBytes is what brokers take as the metadata of a committed offset.
const maxProgressBytes = 4096

// ErrScattered means that the resolved dead letters form more separate ranges of
// offsets than a committed offset can describe. Work on wider ranges, on the
// oldest dead letters first, or with an AuditLog.
var ErrScattered = errors.New("too many separate ranges of resolved dead letters to store as progress")

// offsetRange is the offsets of at least From and less than To.
type offsetRange struct{ From, To int64 }

// progress is which dead letters of one partition are resolved: everything below
// low, and the ranges above it.
type progress struct {
	low    int64
	ranges []offsetRange // sorted, disjoint, above low
}

// has reports whether the dead letter at offset is resolved.
func (p *progress) has(offset int64) bool {
	if offset < p.low {
		return true
	}
	i := p.search(offset)
	return i < len(p.ranges) && p.ranges[i].From <= offset
}

// search returns the index of the first range that ends after offset.
func (p *progress) search(offset int64) int {
	i, _ := slices.BinarySearchFunc(p.ranges, offset, func(s offsetRange, o int64) int {
		if s.To <= o {
			return -1
		}
		return 1
	})
	return i
}

// add marks the offsets of at least from and less than to.
func (p *progress) add(from, to int64) {
	if to <= from || to <= p.low {
		return
	}
	i := p.search(from - 1) // ranges before it do not even touch
	j := i
	for j < len(p.ranges) && p.ranges[j].From <= to {
		from, to = min(from, p.ranges[j].From), max(to, p.ranges[j].To)
		j++
	}
	if from > p.low {
		p.ranges = slices.Replace(p.ranges, i, j, offsetRange{from, to})
		return
	}
	p.low, p.ranges = to, slices.Delete(p.ranges, 0, j)
}

// addItem adds one dead letter, if it is resolved, and the offsets before it that
// hold no dead letter. These need no range of their own: they join a neighbour's.
func (p *progress) addItem(it *item, resolved bool) {
	offset := it.dead.Record.Offset
	switch {
	case resolved:
		p.add(it.after, offset+1)
	case p.has(it.after - 1), it.after == p.low:
		p.add(it.after, offset)
	}
}

// clone returns a copy that shares nothing.
func (p *progress) clone() progress { return progress{low: p.low, ranges: slices.Clone(p.ranges)} }

// encode returns the ranges as text: base64 of pairs of varints, the distance from
// the end of the range before and the length.
func (p *progress) encode() (string, error) {
	b, all := p.pack(maxProgressBytes)
	if !all {
		return "", fmt.Errorf("%w: %d ranges", ErrScattered, len(p.ranges))
	}
	return b, nil
}

// encodeFirst returns as many of the first ranges as fit.
func (p *progress) encodeFirst() string {
	b, _ := p.pack(maxProgressBytes)
	return b
}

// pack encodes the ranges in at most size bytes and reports whether all fitted.
func (p *progress) pack(size int) (text string, all bool) {
	var b []byte
	at := p.low
	for _, s := range p.ranges {
		more := binary.AppendUvarint(b, uint64(s.From-at))
		more = binary.AppendUvarint(more, uint64(s.To-s.From))
		if base64.RawURLEncoding.EncodedLen(len(more)) > size {
			return base64.RawURLEncoding.EncodeToString(b), false
		}
		b, at = more, s.To
	}
	return base64.RawURLEncoding.EncodeToString(b), true
}

// decodeProgress reads a committed offset and its metadata.
func decodeProgress(low int64, metadata string) (progress, error) {
	p := progress{low: low}
	b, err := base64.RawURLEncoding.DecodeString(metadata)
	if err != nil {
		return p, fmt.Errorf("progress of replay at offset %d: %w", low, err)
	}
	at := low
	for len(b) > 0 {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return p, fmt.Errorf("progress of replay at offset %d: cut short", low)
		}
		length, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return p, fmt.Errorf("progress of replay at offset %d: cut short", low)
		}
		s := offsetRange{at + int64(gap), at + int64(gap) + int64(length)}
		if s.From < at || s.To <= s.From {
			return p, fmt.Errorf("progress of replay at offset %d: out of order", low)
		}
		p.ranges, at, b = append(p.ranges, s), s.To, b[n+m:]
	}
	return p, nil
}

func (p *progress) equal(o *progress) bool { return p.low == o.low && slices.Equal(p.ranges, o.ranges) }
