package cache

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// State is what an entry stands for. The zero value means Live.
type State byte

// The states, as they are stored.
const (
	Live    State = 'o' // the value is there
	Missing State = 'n' // there is no such thing (any more)
	Revoked State = 'r' // it was taken back before its time
)

// String is the state's name.
func (s State) String() string {
	switch s {
	case 0, Live:
		return "live"
	case Missing:
		return "missing"
	case Revoked:
		return "revoked"
	}
	return fmt.Sprintf("State(%d)", byte(s))
}

// Entry is what is known of one thing.
type Entry[T any] struct {
	// Version orders the entries of one id: a later state has a higher version.
	// At least 1, except that Missing may have 0: nothing was ever known of it.
	Version int64
	// State is Live by default.
	State State
	// Value is the thing itself; only of Live.
	Value T
	// Expires is when the thing itself ends, as a session does. An entry never
	// outlives it. Zero is never. Of an entry that was read from the cache it is
	// when the entry stops serving, which can be sooner.
	Expires time.Time
}

// Found is a Live entry.
func Found[T any](version int64, value T) Entry[T] {
	return Entry[T]{Version: version, Value: value}
}

// result is the entry as the answer of a Get.
func (e Entry[T]) result() (T, error) {
	switch e.State {
	case Missing:
		return e.Value, ErrNotFound
	case Revoked:
		return e.Value, ErrRevoked
	}
	return e.Value, nil
}

func (e Entry[T]) validate() error {
	switch {
	case e.State != 0 && e.State != Live && e.State != Missing && e.State != Revoked:
		return fmt.Errorf("%s is not a state", e.State)
	case e.Version < 0, e.Version == 0 && e.State != Missing:
		return fmt.Errorf("%w: %d", ErrVersion, e.Version)
	}
	return nil
}

// The fields of a stored entry.
const (
	versionEnd = 20
	expiryFrom = versionEnd + 1
	expiryEnd  = expiryFrom + 13
	headerEnd  = expiryEnd + 8
)

// maxDelta is the longest load that the header can tell.
const maxDelta = 99_999_999

// raw is a stored entry whose payload is not decoded.
type raw struct {
	version int64
	state   State
	expiry  int64 // Unix milliseconds
	delta   int64 // milliseconds
	payload []byte
}

func (r raw) live(now time.Time) bool { return r.expiry > now.UnixMilli() }

// append writes the stored form.
func (r raw) append(b []byte) []byte {
	b = appendPadded(b, r.version, versionEnd)
	b = append(b, byte(cmp.Or(r.state, Live)))
	b = appendPadded(b, min(max(r.expiry, 0), 9_999_999_999_999), expiryEnd-expiryFrom)
	b = appendPadded(b, min(max(r.delta, 0), maxDelta), headerEnd-expiryEnd)
	return append(b, r.payload...)
}

// appendPadded writes n, which is not negative, with leading zeros.
func appendPadded(b []byte, n int64, width int) []byte {
	var digits [20]byte
	at := len(digits)
	for ; n > 0 || len(digits)-at < width; n /= 10 {
		at--
		digits[at] = byte('0' + n%10)
	}
	return append(b, digits[at:]...)
}

var errCorrupt = errors.New("stored entry is corrupt")

// parse reads the stored form. The payload is a part of text.
func parse(text []byte) (raw, error) {
	if len(text) < headerEnd {
		return raw{}, fmt.Errorf("%w: %d bytes are too short", errCorrupt, len(text))
	}
	version, ok1 := digits(text[:versionEnd])
	expiry, ok2 := digits(text[expiryFrom:expiryEnd])
	delta, ok3 := digits(text[expiryEnd:headerEnd])
	if !ok1 || !ok2 || !ok3 {
		return raw{}, fmt.Errorf("%w: header %s", errCorrupt, strconv.QuoteToASCII(string(text[:headerEnd])))
	}
	r := raw{version, State(text[versionEnd]), expiry, delta, text[headerEnd:]}
	if r.state != Live && r.state != Missing && r.state != Revoked {
		return raw{}, fmt.Errorf("%w: state %q", errCorrupt, r.state)
	}
	return r, nil
}

// digits reads a number that fits an int64.
func digits(text []byte) (n int64, ok bool) {
	for _, c := range text {
		d := int64(c) - '0'
		if d < 0 || d > 9 || n > (1<<63-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}
