package telemetry

import (
	"context"
	"log/slog"
	"slices"
)

// Names of the fields that the handler adds, as OpenTelemetry names them.
const (
	FieldTraceID    = "trace_id"
	FieldSpanID     = "span_id"
	FieldTraceFlags = "trace_flags"
)

// FieldLinkTraceID names another trace that a line is about, as when a job, in a
// trace of its own, takes up work that began in an earlier one; see [Link].
const FieldLinkTraceID = "link_trace_id"

// Link is the field for the trace of a traceparent header. One that is not valid
// gives the empty attribute, which handlers leave out.
func Link(traceparent string) slog.Attr {
	t, ok := ParseTraceparent(traceparent)
	if !ok {
		return slog.Attr{}
	}
	return slog.String(FieldLinkTraceID, t.ID())
}

// NewHandler returns a slog.Handler that adds to each line, at the top level and
// also after WithGroup: trace_id, span_id and trace_flags of the context; topic,
// partition, offset and group of the Kafka record the context carries; and the
// attributes given to [ContextWithAttrs]. No attribute is longer than
// [MaxAttrBytes]. Byte slices are logged by their length only. inner writes the
// lines; if it is such a handler already, it is returned as it is.
func NewHandler(inner slog.Handler) slog.Handler {
	if h, ok := inner.(*handler); ok {
		return h
	}
	return &handler{inner: inner}
}

type handler struct {
	inner  slog.Handler // holds the attributes from before the first group
	groups []group      // open groups, outermost first
}

// group is one open group with the attributes added inside it.
type group struct {
	name  string
	attrs []slog.Attr
}

// Enabled reports what the wrapped handler reports.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.inner.Enabled(ctx, level)
}

// WithAttrs returns a handler that adds attrs inside the open groups.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	capped := capAttrs(attrs)
	if len(h.groups) == 0 {
		return &handler{inner: h.inner.WithAttrs(capped)}
	}
	groups := slices.Clone(h.groups)
	last := &groups[len(groups)-1]
	last.attrs = append(slices.Clip(last.attrs), capped...)
	return &handler{inner: h.inner, groups: groups}
}

// WithGroup returns a handler that puts later attributes under name; the fields
// of the context stay at the top.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &handler{inner: h.inner, groups: append(slices.Clip(h.groups), group{name: name})}
}

// Handle writes the line.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	attrs := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, capAttr(a))
		return true
	})
	for i := len(h.groups) - 1; i >= 0; i-- {
		g := h.groups[i]
		all := append(slices.Clip(g.attrs), attrs...)
		attrs = []slog.Attr{{Key: g.name, Value: slog.GroupValue(all...)}}
	}
	line := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	line.AddAttrs(contextAttrs(ctx)...)
	line.AddAttrs(attrs...)
	return h.inner.Handle(ctx, line)
}
