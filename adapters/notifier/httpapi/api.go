// Package httpapi is the REST face of the reference service.
//
// Reference code: no compatibility promise.
package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
)

// Application is what the API needs of the use cases; *app.App is one.
type Application interface {
	RequestNotification(ctx context.Context, cmd app.RequestNotification) (app.Requested, error)
	GetNotification(ctx context.Context, id string) (app.NotificationStatus, error)
	AbandonNotification(ctx context.Context, id, reason string) error
	MarkRead(ctx context.Context, id string) error
	ListRecipientNotifications(ctx context.Context, recipient string, limit int) (app.RecipientList, error)
	DeliveryCounters(ctx context.Context, day string) (app.DeliveryCounters, error)
}

// Config configures an API. The zero value is usable.
type Config struct {
	// MaxBody is the largest request body, in bytes. Default 512 KiB: a body of
	// the largest allowed text, every character escaped.
	MaxBody int64
	// Timeout bounds the work on one request. Default 10 s.
	Timeout time.Duration
	// Ready says whether the service does its work; an error makes /readyz answer
	// 503 with its text. Default: always ready.
	Ready func(ctx context.Context) error
	// Trace, if set, wraps the API: it continues the trace of a traceparent header
	// and answers with X-Trace-Id. Default: no traces.
	Trace func(http.Handler) http.Handler
	// Access, if set, serves accounts and sessions: /v1/accounts, /v1/sessions and
	// /v1/me. Default: they are not found.
	Access Access
	// Reports, if set, serves /v1/statistics. Default: it is not found.
	Reports Reports
	// Metrics, if set, serves /metrics. Default: it is not found.
	Metrics http.Handler
	// Logger takes the errors behind answers of 500. Default: discarded.
	Logger *slog.Logger
}

// API is an http.Handler.
type API struct {
	app     Application
	cfg     Config
	handler http.Handler
}

// New returns the API over the use cases.
func New(a Application, cfg Config) (*API, error) {
	var v domain.Validation
	v.Check(a != nil, "application", "is nil")
	v.Check(cfg.MaxBody >= 0, "MaxBody", "must not be negative")
	v.Check(cfg.Timeout >= 0, "Timeout", "must not be negative")
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("http api: %w", err)
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 512 << 10
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Ready == nil {
		cfg.Ready = func(context.Context) error { return nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	api := &API{app: a, cfg: cfg}
	api.handler = api.routes()
	if cfg.Trace != nil {
		api.handler = cfg.Trace(api.handler)
	}
	return api, nil
}

func (a *API) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/notifications", a.request)
	mux.HandleFunc("GET /v1/notifications/{id}", a.get)
	mux.HandleFunc("POST /v1/notifications/{id}/abandon", a.abandon)
	mux.HandleFunc("POST /v1/notifications/{id}/read", a.read)
	mux.HandleFunc("GET /v1/recipients/{id}/notifications", a.recipientList)
	mux.HandleFunc("GET /v1/counters/{day}", a.counters)
	if a.cfg.Access != nil {
		a.accessRoutes(mux)
	}
	if a.cfg.Reports != nil {
		mux.HandleFunc("GET /v1/statistics", a.statistics)
	}
	if a.cfg.Metrics != nil {
		mux.Handle("GET /metrics", a.cfg.Metrics)
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", a.ready)
	return mux
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.Timeout)
	defer cancel()
	r = r.WithContext(app.WithTrace(ctx, domain.Trace{CorrelationID: correlationID(r)}))
	r.Body = http.MaxBytesReader(w, r.Body, a.cfg.MaxBody)
	a.handler.ServeHTTP(w, r)
}

// Server returns a server for the API that a slow or silent client cannot hold.
func (a *API) Server() *http.Server {
	return &http.Server{
		Handler:           a,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       a.cfg.Timeout + 5*time.Second,
		WriteTimeout:      a.cfg.Timeout + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

func (a *API) ready(w http.ResponseWriter, r *http.Request) {
	if err := a.cfg.Ready(r.Context()); err != nil {
		writeText(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
		return
	}
	writeText(w, http.StatusOK, "ready")
}

// correlationID is the caller's X-Correlation-Id if it is fit to travel in
// message headers: 1 to 128 visible ASCII characters. Any other is left out.
func correlationID(r *http.Request) string {
	id := r.Header.Get("X-Correlation-Id")
	if !visible(id, 128) {
		return ""
	}
	return id
}

func visible(s string, limit int) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) <= limit
}
