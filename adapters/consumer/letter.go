package consumer

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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

// failure is what a dead letter says about the last attempt.
type failure struct {
	attempts    int
	disposition Disposition
	err         error
	group       string
	traceparent string // used if the message has none
	at          time.Time
}

// letterHeaders are the headers of the dead letter of src, up to the exceptions:
// those of the message as they are, then Spring's and ours. A message that failed
// before keeps its first origin and shows its last failure, so headers never
// accumulate.
func letterHeaders(src *record.Record, f failure, bad func(name string)) []record.Header {
	_, invalid, known := readOrigin(src.Headers)
	replays, ok := readCount(src.Headers, HeaderReplayCount)
	if !ok {
		invalid = append(invalid, HeaderReplayCount)
	}
	for _, name := range invalid {
		bad(name)
	}
	if f.disposition == DispositionQuarantined {
		replays = max(replays-1, 0) // a replay that did not reach the handler is none
	}
	hs := ownHeaders(src.Headers, known)
	if !known {
		hs = append(hs, originHeaders(src, f.group)...)
	}
	if _, has := last(hs, outbox.HeaderTraceparent); !has && f.traceparent != "" {
		hs = append(hs, text(outbox.HeaderTraceparent, f.traceparent))
	}
	if src.Partition >= 0 && src.Offset >= 0 {
		hs = append(hs, text(HeaderFailedRecord, placeOf(src)))
	}
	return append(hs,
		text(HeaderAttempts, strconv.Itoa(f.attempts)),
		text(HeaderDisposition, string(f.disposition)),
		text(HeaderFailedAt, f.at.UTC().Format(time.RFC3339Nano)),
		text(HeaderReplayCount, strconv.Itoa(replays)),
		text(HeaderTargetGroup, f.group))
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
	hs := []record.Header{text(HeaderOriginalTopic, src.Topic)}
	if src.Partition >= 0 && src.Offset >= 0 {
		hs = append(hs, int32BE(HeaderOriginalPartition, src.Partition), int64BE(HeaderOriginalOffset, src.Offset))
	}
	if !src.Timestamp.IsZero() {
		hs = append(hs, int64BE(HeaderOriginalTimestamp, src.Timestamp.UnixMilli()), text(HeaderOriginalTimestampType, createTime))
	}
	return append(hs, text(HeaderOriginalGroup, group))
}

// appendExceptions adds the failure itself, cut so that all headers together stay
// within maxHeaders if the message's own leave room: the stack gives way first,
// then the reason, then the cause.
func appendExceptions(hs []record.Header, err error, withStack bool) []record.Header {
	err = bare(err)
	exceptions := []record.Header{
		text(HeaderExceptionType, clip(typeName(err), maxName)),
		text(HeaderExceptionCauseType, clip(typeName(rootCause(err)), maxName)),
		text(HeaderExceptionMessage, clip(sanitise(err.Error(), false), maxReason)),
	}
	if withStack {
		exceptions = append(exceptions, text(HeaderExceptionStacktrace, clip(sanitise(stackOf(err), true), maxStack)))
	}
	over := headerBytes(hs) + headerBytes(exceptions) - maxHeaders
	for i := len(exceptions) - 1; i > 0 && over > 0; i-- {
		h := &exceptions[i]
		if rest := len(h.Value) - over; rest > 0 {
			h.Value = []byte(clip(string(h.Value), rest))
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

// bare strips what this package wrapped around the handler's error.
func bare(err error) error {
	for {
		switch e := err.(type) { //nolint:errorlint // only the outermost layers are ours to strip
		case *FailureError:
			err = e.Err
		case *verdictError:
			err = e.err
		default:
			return err
		}
	}
}

// cause is the next layer below err, or nil. Of several causes it is the last,
// since the first is the sentinel by the habit of "%w: %w".
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

// stackOf is the stack of a panic, or the layers of an error, outermost first.
func stackOf(err error) string {
	if p, ok := errors.AsType[*PanicError](err); ok {
		return fmt.Sprintf("%v\n%s", p, p.Stack)
	}
	var b strings.Builder
	for layer := err; layer != nil && b.Len() < maxStack; layer = cause(layer) {
		if b.Len() > 0 {
			b.WriteString("\ncaused by ")
		}
		fmt.Fprintf(&b, "%s: %s", typeName(layer), clip(layer.Error(), maxReason))
	}
	return b.String()
}

// sanitise makes valid UTF-8 without control characters; lines stay if asked.
func sanitise(s string, lines bool) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && (!lines || (r != '\n' && r != '\t')) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// clip cuts s at a rune boundary.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
