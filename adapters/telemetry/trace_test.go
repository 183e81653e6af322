package telemetry_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-go/millrace/adapters/telemetry"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestParseTraceparent_ReadsWhatW3CAllows(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{
		"version 00":               parent,
		"not sampled":              parent[:53] + "00",
		"later version":            "cc" + parent[2:],
		"later version, longer":    "cc" + parent[2:] + "-what-the-future-brings",
		"flags of a later version": "cc" + parent[2:53] + "ff",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trace, ok := telemetry.ParseTraceparent(header)
			require.True(t, ok)
			require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", trace.ID())
			require.Equal(t, "00f067aa0ba902b7", trace.Span())
			require.LessOrEqual(t, trace.Flags, telemetry.Sampled)
		})
	}
}

func TestParseTraceparent_RefusesTheRest(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{
		"empty":                 "",
		"short":                 parent[:54],
		"long version 00":       parent + "-x",
		"later, no dash":        "cc" + parent[2:] + "x",
		"version ff":            "ff" + parent[2:],
		"upper case":            strings.ToUpper(parent),
		"not hex":               strings.Replace(parent, "4", "g", 1),
		"trace id of zeros":     "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"span id of zeros":      "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"wrong separators":      strings.ReplaceAll(parent, "-", "_"),
		"multi-byte characters": strings.Repeat("é", 28),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, ok := telemetry.ParseTraceparent(header)
			require.False(t, ok)
		})
	}
}

func TestTrace_SurvivesTheWire(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		copy1 := telemetry.NewTrace()
		copy2, ok := telemetry.ParseTraceparent(copy1.Traceparent())
		require.True(t, ok)
		require.Equal(t, copy1, copy2)
		_, _ = telemetry.ParseTraceparent(rapid.String().Draw(t, "header")) // never panics
	})
}

func TestTracer_ContinuesTheTraceInAChildSpan(t *testing.T) {
	t.Parallel()
	ctx := telemetry.Tracer{}.Continue(t.Context(), parent)
	trace, ok := telemetry.TraceFrom(ctx)
	require.True(t, ok)
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", trace.ID())
	require.NotEqual(t, "00f067aa0ba902b7", trace.Span())
	require.Equal(t, trace.Traceparent(), telemetry.Tracer{}.Traceparent(ctx))

	child, _ := telemetry.TraceFrom(telemetry.StartSpan(ctx))
	require.Equal(t, trace.ID(), child.ID())
	require.NotEqual(t, trace.Span(), child.Span())
}

func TestTracer_StartsANewTraceForABadHeader(t *testing.T) {
	t.Parallel()
	first, ok := telemetry.TraceFrom(telemetry.Tracer{}.Continue(t.Context(), "garbage"))
	require.True(t, ok)
	second, ok := telemetry.TraceFrom(telemetry.StartSpan(t.Context()))
	require.True(t, ok)
	require.NotEqual(t, first.ID(), second.ID())
	require.Empty(t, telemetry.Tracer{}.Traceparent(t.Context()))
}

func TestHTTP_AnswersWithTheTraceID(t *testing.T) {
	t.Parallel()
	var seen context.Context
	handler := telemetry.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Context() }))
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	request.Header.Set("traceparent", parent)
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, request)

	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", response.Header().Get("X-Trace-Id"))
	trace, ok := telemetry.TraceFrom(seen)
	require.True(t, ok)
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", trace.ID())
}
