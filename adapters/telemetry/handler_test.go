package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox/record"
)

// capture returns a logger and a function that decodes its only line.
func capture(t *testing.T) (*slog.Logger, func() map[string]any) {
	var out bytes.Buffer
	inner := slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: telemetry.LevelTrace})
	return slog.New(telemetry.NewHandler(inner)), func() map[string]any {
		var line map[string]any
		require.NoError(t, json.Unmarshal(out.Bytes(), &line), out.String())
		return line
	}
}

func tracedContext(t *testing.T) context.Context {
	trace, ok := telemetry.ParseTraceparent(parent)
	require.True(t, ok)
	return telemetry.ContextWithTrace(t.Context(), trace)
}

func TestHandler_KeepsTraceAtTheTopInsideGroups(t *testing.T) {
	t.Parallel()
	log, line := capture(t)
	ctx := record.With(tracedContext(t), &record.Record{Topic: "orders", Partition: 3, Offset: 42, Group: "views"})
	ctx = telemetry.ContextWithAttrs(ctx, slog.String("job", "resend"), slog.Int("fence", 7))
	log.With("a", 1).WithGroup("g").With("b", 2).WithGroup("h").With("c", 3).InfoContext(ctx, "hello", "d", 4)

	got := line()
	delete(got, "time")
	require.Equal(t, map[string]any{
		"level": "INFO", "msg": "hello", "a": 1.0,
		"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7", "trace_flags": "01",
		"topic": "orders", "partition": 3.0, "offset": 42.0, "group": "views", "job": "resend", "fence": 7.0,
		"g": map[string]any{"b": 2.0, "h": map[string]any{"c": 3.0, "d": 4.0}},
	}, got)
}

func TestHandler_DoesNotShareStateBetweenDerivedLoggers(t *testing.T) {
	t.Parallel()
	log, line := capture(t)
	base := log.WithGroup("g").With("shared", true)
	_ = base.With("left", 1)
	_ = base.WithGroup("left").With("x", 1)
	base.With("right", 2).Info("hello")
	require.Equal(t, map[string]any{"shared": true, "right": 2.0}, line()["g"])
}

func TestHandler_AddsNothingWithoutTrace(t *testing.T) {
	t.Parallel()
	log, line := capture(t)
	log.WithGroup("empty").InfoContext(t.Context(), "hello")
	require.Len(t, line(), 3) // time, level, msg
}

func TestHandler_CapsLongAttributes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 2000)
	for name, attr := range map[string]slog.Attr{
		"string":   slog.String("x", long),
		"error":    slog.Any("x", errors.New(long)),
		"struct":   slog.Any("x", struct{ Text string }{long}),
		"valuer":   slog.Any("x", valuer(long)),
		"stringer": slog.Any("x", watermill.LogFields{"a": long}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, line := capture(t)
			log.With(attr).WithGroup("g").With(attr).Info("hello", attr, slog.Group("in", attr))
			got := line()
			group := got["g"].(map[string]any)
			for _, text := range []any{got["x"], group["x"], group["in"].(map[string]any)["x"]} {
				require.LessOrEqual(t, len(text.(string)), telemetry.MaxAttrBytes)
				require.Greater(t, len(text.(string)), telemetry.MaxAttrBytes-10)
				require.True(t, strings.HasSuffix(text.(string), "é…"), text)
			}
		})
	}
}

type valuer string

func (v valuer) LogValue() slog.Value { return slog.StringValue(string(v)) }

func TestHandler_LogsBytesByLengthOnly(t *testing.T) {
	t.Parallel()
	log, line := capture(t)
	log.Info("hello", "payload", []byte("token=abc"))
	require.Equal(t, "[9 bytes]", line()["payload"])
}

func TestWatermillLogger_MapsLevelsAndFields(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		emit func(watermill.LoggerAdapter)
		want map[string]any
	}{
		"error": {func(l watermill.LoggerAdapter) { l.Error("m", errors.New("boom"), watermill.LogFields{"k": 1}) },
			map[string]any{"level": "ERROR", "error": "boom", "k": 1.0}},
		"info":  {func(l watermill.LoggerAdapter) { l.Info("m", nil) }, map[string]any{"level": "INFO"}},
		"debug": {func(l watermill.LoggerAdapter) { l.Debug("m", nil) }, map[string]any{"level": "DEBUG"}},
		"trace": {func(l watermill.LoggerAdapter) { l.Trace("m", nil) }, map[string]any{"level": "DEBUG-4"}},
		"no payload": {func(l watermill.LoggerAdapter) { l.Info("m", watermill.LogFields{"not_sent_message": "secret"}) },
			map[string]any{"level": "INFO"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, line := capture(t)
			c.emit(telemetry.NewWatermillLogger(log).With(watermill.LogFields{"topic": "orders"}))
			got := line()
			delete(got, "time")
			c.want["msg"], c.want["topic"] = "m", "orders"
			require.Equal(t, c.want, got)
		})
	}
}

func TestNewHandler_OfOneOfItsOwnIsThatOne(t *testing.T) {
	t.Parallel()
	once := telemetry.NewHandler(slog.DiscardHandler)
	require.Same(t, once, telemetry.NewHandler(once), "else each line had the ids twice")
}
