package telemetry

import "net/http"

// HeaderTraceID is the response header with the trace id, for the caller.
const HeaderTraceID = "X-Trace-Id"

// HTTP continues the trace of each request, or starts one, and answers with its
// id in X-Trace-Id.
func HTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := Tracer{}.Continue(r.Context(), r.Header.Get(HeaderTraceparent))
		if t, ok := TraceFrom(ctx); ok {
			w.Header().Set(HeaderTraceID, t.ID())
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
