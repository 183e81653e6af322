package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// MaxID is the most bytes of an id. Take Digest of what is longer, or secret.
const MaxID = 512

// Key joins parts to one id, so that different parts give different ids: a
// separator or a control byte inside a part is escaped.
func Key(parts ...string) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(':')
		}
		for j := range len(p) {
			if c := p[j]; c == ':' || c == '%' || c <= ' ' || c == 0x7f {
				fmt.Fprintf(&b, "%%%02X", c)
			} else {
				b.WriteByte(c)
			}
		}
	}
	return b.String()
}

// Digest is the hex SHA-256 of Key(parts...): an id of fixed length that does not
// tell what it was made of.
func Digest(parts ...string) string {
	sum := sha256.Sum256([]byte(Key(parts...)))
	return hex.EncodeToString(sum[:])
}

func checkID(id string) error {
	if id == "" {
		return fmt.Errorf("%w: is empty", ErrKey)
	}
	if len(id) > MaxID {
		return fmt.Errorf("%w: has %d bytes, more than %d", ErrKey, len(id), MaxID)
	}
	return nil
}

// leaseOf is where the right to fill key is held.
func leaseOf(key string) string { return "lease:" + key }
