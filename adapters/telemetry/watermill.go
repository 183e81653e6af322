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

// NewWatermillLogger returns a logger for Watermill that writes to log; nil means
// slog.Default. Fields come in the order of their names, so that lines are stable;
// fields that would print a whole message are left out. A line about an error that
// has a method Traceparent, as package consumer's Trace gives it, is written under
// that trace: Watermill gives its logger no context, but it gives it the error.
func NewWatermillLogger(log *slog.Logger) watermill.LoggerAdapter {
	if log == nil {
		log = slog.Default()
	}
	return &watermillLogger{log: log}
}

// watermillLogger is Watermill's view of a slog.Logger.
type watermillLogger struct{ log *slog.Logger }

// Error logs at slog's error level, with err as the attribute "error".
func (l *watermillLogger) Error(msg string, err error, fields watermill.LogFields) {
	l.emit(slog.LevelError, msg, err, fields)
}

// Info logs at slog's info level.
func (l *watermillLogger) Info(msg string, fields watermill.LogFields) {
	l.emit(slog.LevelInfo, msg, nil, fields)
}

// Debug logs at slog's debug level.
func (l *watermillLogger) Debug(msg string, fields watermill.LogFields) {
	l.emit(slog.LevelDebug, msg, nil, fields)
}

// Trace logs at LevelTrace.
func (l *watermillLogger) Trace(msg string, fields watermill.LogFields) {
	l.emit(LevelTrace, msg, nil, fields)
}

// With returns a logger that adds fields to every line.
func (l *watermillLogger) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return &watermillLogger{log: slog.New(l.log.Handler().WithAttrs(fieldAttrs(fields)))}
}

func (l *watermillLogger) emit(level slog.Level, msg string, err error, fields watermill.LogFields) {
	ctx := contextOf(err)
	if !l.log.Enabled(ctx, level) {
		return
	}
	attrs := fieldAttrs(fields)
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	l.log.LogAttrs(ctx, level, msg, attrs...) //nolint:sloglint // the message is Watermill's
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
