package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/ThreeDotsLabs/watermill"
)

// LevelTrace is the slog level of Watermill's trace messages.
const LevelTrace = slog.LevelDebug - 4

// WatermillLogger lets Watermill log through slog. Fields come in the order of
// their names, so that lines are stable; fields that would print a whole message
// are left out. A line about an error that has a method Traceparent, as package
// consumer's Trace gives it, is written under that trace: a logger of Watermill is
// told no context, but it is told the error.
type WatermillLogger struct{ log *slog.Logger }

var _ watermill.LoggerAdapter = (*WatermillLogger)(nil)

// NewWatermillLogger logs to log; nil means slog.Default.
func NewWatermillLogger(log *slog.Logger) *WatermillLogger {
	if log == nil {
		log = slog.Default()
	}
	return &WatermillLogger{log: log}
}

// Error logs at slog's error level, with err as the attribute "error".
func (l *WatermillLogger) Error(msg string, err error, fields watermill.LogFields) {
	l.emit(slog.LevelError, msg, err, fields)
}

// Info logs at slog's info level.
func (l *WatermillLogger) Info(msg string, fields watermill.LogFields) {
	l.emit(slog.LevelInfo, msg, nil, fields)
}

// Debug logs at slog's debug level.
func (l *WatermillLogger) Debug(msg string, fields watermill.LogFields) {
	l.emit(slog.LevelDebug, msg, nil, fields)
}

// Trace logs at LevelTrace.
func (l *WatermillLogger) Trace(msg string, fields watermill.LogFields) {
	l.emit(LevelTrace, msg, nil, fields)
}

// With returns a logger that adds fields to every line.
func (l *WatermillLogger) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return &WatermillLogger{log: slog.New(l.log.Handler().WithAttrs(fieldAttrs(fields)))}
}

func (l *WatermillLogger) emit(level slog.Level, msg string, err error, fields watermill.LogFields) {
	ctx := contextOf(err)
	if !l.log.Enabled(ctx, level) {
		return
	}
	attrs := fieldAttrs(fields)
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	l.log.LogAttrs(ctx, level, msg, attrs...)
}

// contextOf carries the trace of err, if it has one.
func contextOf(err error) context.Context {
	if traced, ok := errors.AsType[interface {
		error
		Traceparent() string
	}](err); ok {
		if t, ok := ParseTraceparent(traced.Traceparent()); ok {
			return ContextWithTrace(context.Background(), t)
		}
	}
	return context.Background()
}

func fieldAttrs(fields watermill.LogFields) []slog.Attr {
	names := make([]string, 0, len(fields))
	for name := range fields {
		if name != "not_sent_message" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	attrs := make([]slog.Attr, len(names), len(names)+1)
	for i, name := range names {
		attrs[i] = slog.Any(name, fields[name])
	}
	return attrs
}
