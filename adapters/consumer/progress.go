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

// ErrScattered means that what was replayed lies in more pieces than a committed
// offset can describe. Replay wider ranges, or what lies first.
var ErrScattered = errors.New("replayed dead letters lie too scattered to be remembered")

// span is the offsets from From up to, but not including, To.
type span struct{ From, To int64 }

// progress is what earlier replays have done with one partition: everything
// below low, and the spans above it.
type progress struct {
	low  int64
	done []span // sorted, disjoint, above low
}

// has reports whether the record at offset was replayed.
func (p *progress) has(offset int64) bool {
	if offset < p.low {
		return true
	}
	i, _ := slices.BinarySearchFunc(p.done, offset, func(s span, o int64) int {
		if s.To <= o {
			return -1
		}
		return 1
	})
	return i < len(p.done) && p.done[i].From <= offset
}

// after returns the progress once everything below pos was passed: the letters
// at sent are done, those at pending are not (both sorted). What p knows of
// offsets from pos on stays. Offsets without a letter cost nothing.
func (p *progress) after(pos int64, sent, pending []int64) progress {
	next := progress{low: pos}
	if len(pending) > 0 {
		next.low = pending[0]
	}
	for i, offset := range pending {
		end := pos
		if i+1 < len(pending) {
			end = pending[i+1]
		}
		from, _ := slices.BinarySearch(sent, offset)
		if from < len(sent) && sent[from] < end {
			next.done = append(next.done, span{offset + 1, end})
		}
	}
	for _, s := range p.done {
		if s.To > pos {
			next.done = append(next.done, span{max(s.From, pos), s.To})
		}
	}
	next.merge()
	return next
}

// merge joins spans that touch each other or low.
func (p *progress) merge() {
	var merged []span
	for _, s := range p.done {
		switch last := len(merged) - 1; {
		case s.From <= p.low && last < 0:
			p.low = max(p.low, s.To)
		case last >= 0 && s.From <= merged[last].To:
			merged[last].To = max(merged[last].To, s.To)
		default:
			merged = append(merged, s)
		}
	}
	p.done = merged
}

// encode returns the spans as text: base64 of pairs of varints, the distance from
// the end of the last span and the length.
func (p *progress) encode() (string, error) {
	if len(p.done) == 0 {
		return "", nil
	}
	var b []byte
	at := p.low
	for _, s := range p.done {
		b = binary.AppendUvarint(b, uint64(s.From-at))
		b = binary.AppendUvarint(b, uint64(s.To-s.From))
		at = s.To
	}
	encoded := base64.RawURLEncoding.EncodeToString(b)
	if len(encoded) > maxProgressBytes {
		return "", fmt.Errorf("%w: %d pieces", ErrScattered, len(p.done))
	}
	return encoded, nil
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
