package deadletter

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// Limits of what a dead letter adds to a record, in bytes.
const (
	maxStack   = 8 << 10
	maxReason  = 1 << 10
	maxHeaders = 16 << 10 // of all headers together, unless the message's own are longer
	maxName    = 512      // of a Go type name
)

// Disposition says why a message became a dead letter; it is the value of the
// header dlt-disposition.
type Disposition string

// The dispositions.
const (
	DispositionDecode      Disposition = "decode"    // it could not be decoded
	DispositionFatal       Disposition = "fatal"     // any other error that no retry can fix
	DispositionExhausted   Disposition = "exhausted" // retries used up
	DispositionPanic       Disposition = "panic"
	DispositionTimeout     Disposition = "timeout"     // retries used up, the last attempt timed out
	DispositionQuarantined Disposition = "quarantined" // waits behind a dead letter of its key, see package quarantine
)

// Failure is what a dead letter says about the last attempt to handle a message.
type Failure struct {
	Attempts    int
	Disposition Disposition
	Err         error
	Stack       string // of a panic; empty: the layers of Err are shown instead
	Group       string // the consumer group that failed
	Traceparent string // used if the message has none
	At          time.Time

	// NoStack leaves the stack out, to make the dead letter smaller.
	NoStack bool
	// ValueOmitted says that the dead letter has no value because the original one,
	// of ValueSize bytes, is too large for the dead-letter topic.
	ValueOmitted bool
	ValueSize    int
}

// Headers returns the headers of the dead letter of src: those of the message as
// they are, then Spring's and ours. A message that failed before keeps its first
// origin and shows its last failure, so headers never accumulate. bad names
// headers of src whose values are not valid for their type; such values are
// ignored.
func (f *Failure) Headers(src *record.Record) (headers []record.Header, bad []string) {
	_, bad, known := readOrigin(src.Headers)
	replays, ok := readCount(src.Headers, HeaderReplayCount)
	if !ok {
		bad = append(bad, HeaderReplayCount)
	}
	if f.Disposition == DispositionQuarantined {
		replays = max(replays-1, 0) // a replay that did not reach the handler does not count
	}
	hs := ownHeaders(src.Headers, known)
	if !known {
		hs = append(hs, originHeaders(src, f.Group)...)
	}
	if _, has := last(hs, outbox.HeaderTraceparent); !has && f.Traceparent != "" {
		hs = append(hs, records.Text(outbox.HeaderTraceparent, f.Traceparent))
	}
	if src.Partition >= 0 && src.Offset >= 0 {
		hs = append(hs, records.Text(HeaderFailedRecord, records.Place(src)))
	}
	hs = append(hs,
		records.Text(HeaderAttempts, strconv.Itoa(f.Attempts)),
		records.Text(HeaderDisposition, string(f.Disposition)),
		records.Text(HeaderFailedAt, f.At.UTC().Format(time.RFC3339Nano)),
		records.Text(HeaderReplayCount, strconv.Itoa(replays)),
		records.Text(HeaderTargetGroup, f.Group))
	if f.ValueOmitted {
		hs = append(hs, records.Text(HeaderValueOmitted, strconv.Itoa(f.ValueSize)))
	}
	return f.appendExceptions(hs), bad
}

// ownHeaders are the headers that a dead letter takes over, in their order. Of
// each original-* header only the first stays, and none if they are incomplete.
func ownHeaders(src []record.Header, knownOrigin bool) []record.Header {
	hs := make([]record.Header, 0, len(src)+16)
	for _, h := range src {
		if isFailureHeader(h.Key) || isReplayHeader(h.Key) {
			continue
		}
		if strings.HasPrefix(h.Key, originalPrefix) {
			if _, seen := first(hs, h.Key); seen || !knownOrigin {
				continue
			}
		}
		hs = append(hs, h)
	}
	return hs
}

func originHeaders(src *record.Record, group string) []record.Header {
	hs := []record.Header{records.Text(HeaderOriginalTopic, src.Topic)}
	if src.Partition >= 0 && src.Offset >= 0 {
		hs = append(hs, int32BE(HeaderOriginalPartition, src.Partition), int64BE(HeaderOriginalOffset, src.Offset))
	}
	if !src.Timestamp.IsZero() {
		hs = append(hs, int64BE(HeaderOriginalTimestamp, src.Timestamp.UnixMilli()), records.Text(HeaderOriginalTimestampType, createTime))
	}
	return append(hs, records.Text(HeaderOriginalGroup, group))
}

// appendExceptions adds the error, cut so that all headers together stay within
// maxHeaders if the message's own leave room: the stack is cut first, then the
// reason, then the cause.
func (f *Failure) appendExceptions(hs []record.Header) []record.Header {
	exceptions := []record.Header{
		records.Text(HeaderExceptionType, clip(typeName(f.Err), maxName)),
		records.Text(HeaderExceptionCauseType, clip(typeName(rootCause(f.Err)), maxName)),
		records.Text(HeaderExceptionMessage, clip(sanitise(f.Err.Error(), false), maxReason)),
	}
	if !f.NoStack {
		exceptions = append(exceptions, records.Text(HeaderExceptionStacktrace, clip(sanitise(f.stack(), true), maxStack)))
	}
	over := headerBytes(hs) + headerBytes(exceptions) - maxHeaders
	for i := len(exceptions) - 1; i > 0 && over > 0; i-- {
		h := &exceptions[i]
		if remaining := len(h.Value) - over; remaining > 0 {
			h.Value = []byte(clip(string(h.Value), remaining))
			break
		}
		over -= len(h.Key) + len(h.Value)
		exceptions = exceptions[:i]
	}
	return append(slices.Clip(hs), exceptions...)
}

func headerBytes(hs []record.Header) (n int) {
	for _, h := range hs {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// stack is the stack of a panic, or the layers of an error, outermost first.
func (f *Failure) stack() string {
	if f.Stack != "" {
		return f.Stack
	}
	var b strings.Builder
	for layer := f.Err; layer != nil && b.Len() < maxStack; layer = cause(layer) {
		if b.Len() > 0 {
			b.WriteString("\ncaused by ")
		}
		fmt.Fprintf(&b, "%s: %s", typeName(layer), clip(layer.Error(), maxReason))
	}
	return b.String()
}

// cause is the next layer below err, or nil. Of several causes it is the last,
// since by the habit of "%w: %w" the first is the sentinel.
func cause(err error) error {
	switch e := err.(type) { //nolint:errorlint // one step at a time
	case interface{ Unwrap() error }:
		return e.Unwrap()
	case interface{ Unwrap() []error }:
		for _, c := range slices.Backward(e.Unwrap()) {
			if c != nil {
				return c
			}
		}
	}
	return nil
}

func rootCause(err error) error {
	for next := cause(err); next != nil; next = cause(err) {
		err = next
	}
	return err
}

// typeName is the Go type with its whole import path, as Java's class names are.
func typeName(err error) string {
	t, star := reflect.TypeOf(err), ""
	for t.Kind() == reflect.Pointer && t.Name() == "" {
		t, star = t.Elem(), star+"*"
	}
	if t.PkgPath() == "" || t.Name() == "" {
		return star + t.String()
	}
	return star + t.PkgPath() + "." + t.Name()
}

// sanitise makes valid UTF-8 without control characters; line breaks stay if
// keepLines is set.
func sanitise(s string, keepLines bool) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && (!keepLines || (r != '\n' && r != '\t')) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// clip cuts s to at most limit bytes, at a rune boundary.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
