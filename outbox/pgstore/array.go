package pgstore

import (
	"database/sql/driver"
	"encoding/hex"
)

// nullableBytes is a bytea[] whose nil elements are NULL, which pq.ByteaArray
// cannot express: a null payload is a Kafka tombstone, an empty one is not.
type nullableBytes [][]byte

// Value implements driver.Valuer.
func (a nullableBytes) Value() (driver.Value, error) {
	size := 2
	for _, x := range a {
		size += 7 + hex.EncodedLen(len(x))
	}
	b := append(make([]byte, 0, size), '{')
	for i, x := range a {
		if i > 0 {
			b = append(b, ',')
		}
		if x == nil {
			b = append(b, "NULL"...)
			continue
		}
		b = append(b, `"\\x`...)
		b = hex.AppendEncode(b, x)
		b = append(b, '"')
	}
	return string(append(b, '}')), nil
}
