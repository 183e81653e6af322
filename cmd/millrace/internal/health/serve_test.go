package health_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/millrace/internal/health"
	"github.com/millrace-go/millrace/outbox"
)

func of(s outbox.Status) func() outbox.Status { return func() outbox.Status { return s } }

func TestHandler_ReadyTellsEachOutbox(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var (
		leading = health.Outbox{Name: "orders", Status: of(outbox.Status{Leading: true, Read: now})}
		standby = health.Outbox{Name: "billing", Status: of(outbox.Status{})}
		away    = health.Outbox{Name: "stock", Status: of(outbox.Status{Err: errors.New("no route to host")})}
		stuck   = health.Outbox{Name: "users", Status: of(outbox.Status{Leading: true, Read: now, InFlight: 1, Stalled: now.Add(-time.Minute)})}
		alone   = health.Outbox{Status: leading.Status}
	)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx      context.Context
		outboxes []health.Outbox
		query    string
		code     int
		body     string
	}{
		"one that leads":        {outboxes: []health.Outbox{alone}, code: 200, body: "ok: leading\n"},
		"several":               {outboxes: []health.Outbox{leading, standby}, code: 200, body: "orders: ok: leading\nbilling: ok: standing by\n"},
		"one of them is away":   {outboxes: []health.Outbox{leading, away}, code: 503, body: "orders: ok: leading\nstock: not ready: no route to host\n"},
		"one of them is stuck":  {outboxes: []health.Outbox{stuck, standby}, code: 503, body: "users: not ready: messages wait and none moves\nbilling: ok: standing by\n"},
		"asked for one":         {outboxes: []health.Outbox{leading, away}, query: "?outbox=orders", code: 200, body: "orders: ok: leading\n"},
		"asked for one unknown": {outboxes: []health.Outbox{leading, away}, query: "?outbox=order", code: 404, body: "no outbox has this name\n"},
		"draining":              {ctx: ended, outboxes: []health.Outbox{leading}, code: 503, body: "draining\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.ctx == nil {
				tc.ctx = t.Context()
			}
			w := httptest.NewRecorder()
			health.Handler(tc.ctx, tc.outboxes, prometheus.NewRegistry()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz"+tc.query, nil))
			require.Equal(t, tc.code, w.Code)
			require.Equal(t, tc.body, w.Body.String())
		})
	}
}
