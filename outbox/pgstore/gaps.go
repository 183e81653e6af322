package pgstore

import (
	"encoding/binary"
	"errors"

	"github.com/millrace-go/millrace/outbox"
)

// encodeGaps encodes the gaps of a cursor as unsigned varints: for each gap its
// distance from the end of the one before and its length less one. A gap usually
// takes two or three bytes.
func encodeGaps(gaps []outbox.Range) []byte {
	b := make([]byte, 0, 3*len(gaps))
	var end int64
	for _, g := range gaps {
		b = binary.AppendUvarint(b, uint64(g.Lo-end))
		b = binary.AppendUvarint(b, uint64(g.Hi-g.Lo))
		end = g.Hi
	}
	return b
}

var errGaps = errors.New("gaps of the cursor are not readable")

// decodeGaps is the inverse of encodeGaps. It refuses gaps that are not disjoint,
// rising, or at or below position.
func decodeGaps(b []byte, position int64) ([]outbox.Range, error) {
	var gaps []outbox.Range
	var end int64
	for len(b) > 0 {
		skip, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errGaps
		}
		length, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return nil, errGaps
		}
		b = b[n+m:]
		g := outbox.Range{Lo: end + int64(skip), Hi: end + int64(skip) + int64(length)}
		if g.Lo <= end || g.Hi < g.Lo || g.Hi > position {
			return nil, errGaps
		}
		gaps = append(gaps, g)
		end = g.Hi
	}
	return gaps, nil
}
