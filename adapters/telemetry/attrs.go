package telemetry

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"unicode/utf8"

	"github.com/millrace-go/millrace/outbox/record"
)

// MaxAttrBytes is the longest text that one attribute may have in the log.
const MaxAttrBytes = 1024

type attrsKey struct{}

// ContextWithAttrs returns a context whose log lines carry attrs at the top
// level, after those already in ctx: a job and its fence, for example.
func ContextWithAttrs(ctx context.Context, attrs ...slog.Attr) context.Context {
	earlier, _ := ctx.Value(attrsKey{}).([]slog.Attr)
	return context.WithValue(ctx, attrsKey{}, append(slices.Clip(earlier), capAttrs(attrs)...))
}

// contextAttrs are the top-level fields that ctx asks for.
func contextAttrs(ctx context.Context) []slog.Attr {
	if ctx == nil {
		return nil
	}
	var attrs []slog.Attr
	if t, ok := TraceFrom(ctx); ok {
		attrs = append(attrs,
			slog.String(FieldTraceID, t.ID()),
			slog.String(FieldSpanID, t.Span()),
			slog.String(FieldTraceFlags, hex.EncodeToString([]byte{t.Flags})))
	}
	if r, ok := record.From(ctx); ok {
		attrs = append(attrs,
			slog.String("topic", r.Topic),
			slog.Int("partition", int(r.Partition)),
			slog.Int64("offset", r.Offset))
		if r.Group != "" {
			attrs = append(attrs, slog.String("group", r.Group))
		}
	}
	more, _ := ctx.Value(attrsKey{}).([]slog.Attr)
	return append(attrs, more...)
}

func capAttrs(attrs []slog.Attr) []slog.Attr {
	capped := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		capped[i] = capAttr(a)
	}
	return capped
}

func capAttr(a slog.Attr) slog.Attr {
	return slog.Attr{Key: a.Key, Value: capValue(a.Value.Resolve())}
}

func capValue(v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(capText(v.String()))
	case slog.KindGroup:
		return slog.GroupValue(capAttrs(v.Group())...)
	case slog.KindAny:
		return capAny(v)
	default:
		return v
	}
}

func capAny(v slog.Value) slog.Value {
	switch x := v.Any().(type) {
	case nil, *slog.Source:
		return v
	case []byte:
		return slog.StringValue(fmt.Sprintf("[%d bytes]", len(x)))
	case error:
		return slog.StringValue(capText(x.Error()))
	default:
		if s := fmt.Sprintf("%+v", x); len(s) > MaxAttrBytes {
			return slog.StringValue(capText(s))
		}
		return v
	}
}

// capText cuts s at a rune boundary so that the mark of the cut still fits.
func capText(s string) string {
	const mark = "…"
	if len(s) <= MaxAttrBytes {
		return s
	}
	end := MaxAttrBytes - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}
