package consumer

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// maxProgressBytes is what brokers take as the metadata of a committed offset.
const maxProgressBytes = 4096

// ErrScattered means that what was dealt with lies in more pieces than a
// committed offset can describe. Work on wider ranges, on what lies first, or
// with a Book.
var ErrScattered = errors.New("dead letters that were dealt with lie too scattered to be remembered")

// span is the offsets from From up to, but not including, To.
type span struct{ From, To int64 }

// progress is which letters of one partition were dealt with: everything below
// low, and the spans above it.
type progress struct {
	low  int64
	done []span // sorted, disjoint, above low
}

// has reports whether the letter at offset was dealt with.
func (p *progress) has(offset int64) bool {
	if offset < p.low {
		return true
	}
	i := p.search(offset)
	return i < len(p.done) && p.done[i].From <= offset
}

// search returns the first span that ends after offset.
func (p *progress) search(offset int64) int {
	i, _ := slices.BinarySearchFunc(p.done, offset, func(s span, o int64) int {
		if s.To <= o {
			return -1
		}
		return 1
	})
	return i
}

// add marks the offsets from from up to, but not including, to.
func (p *progress) add(from, to int64) {
	if to <= from || to <= p.low {
		return
	}
	i := p.search(from - 1) // spans before it do not even touch
	j := i
	for j < len(p.done) && p.done[j].From <= to {
		from, to = min(from, p.done[j].From), max(to, p.done[j].To)
		j++
	}
	if from > p.low {
		p.done = slices.Replace(p.done, i, j, span{from, to})
		return
	}
	p.low, p.done = to, slices.Delete(p.done, 0, j)
}

// clone returns a copy that shares nothing.
func (p *progress) clone() progress { return progress{low: p.low, done: slices.Clone(p.done)} }

// encode returns the spans as text: base64 of pairs of varints, the distance from
// the end of the last span and the length.
func (p *progress) encode() (string, error) {
	b, all := p.pack(maxProgressBytes)
	if !all {
		return "", fmt.Errorf("%w: %d pieces", ErrScattered, len(p.done))
	}
	return b, nil
}

// encodeFirst returns as many of the first spans as fit.
func (p *progress) encodeFirst() string {
	b, _ := p.pack(maxProgressBytes)
	return b
}

// pack encodes the spans in at most size bytes and reports whether all fitted.
func (p *progress) pack(size int) (text string, all bool) {
	var b []byte
	at := p.low
	for _, s := range p.done {
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
		s := span{at + int64(gap), at + int64(gap) + int64(length)}
		if s.From < at || s.To <= s.From {
			return p, fmt.Errorf("progress of replay at offset %d: out of order", low)
		}
		p.done, at, b = append(p.done, s), s.To, b[n+m:]
	}
	return p, nil
}

func (p *progress) equal(o *progress) bool { return p.low == o.low && slices.Equal(p.done, o.done) }
