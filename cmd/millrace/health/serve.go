package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/millrace-go/millrace/outbox"
)

// patience is how long messages may wait without moving before the relay counts
// as not ready.
const patience = 15 * time.Second

// Handler serves /livez, /readyz and /metrics. Ready means that messages move or
// that there is nothing to move; draining makes it false for good.
func Handler(ctx context.Context, status func() outbox.Status, reg *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s := status()
		switch {
		case ctx.Err() != nil:
			http.Error(w, "draining", http.StatusServiceUnavailable)
		case !s.Ready(time.Now(), patience):
			http.Error(w, notReady(s), http.StatusServiceUnavailable)
		case s.Leading:
			fmt.Fprintln(w, "ok: leading")
		default:
			fmt.Fprintln(w, "ok: standing by")
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return mux
}

func notReady(s outbox.Status) string {
	if s.Err != nil {
		return "not ready: " + s.Err.Error()
	}
	return "not ready: messages wait and none moves"
}

// Serve answers at l until stop is closed, and closes l. Close stop after the
// relay has drained, so that a draining relay still tells that it lives.
func Serve(l net.Listener, h http.Handler, stop <-chan struct{}) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("health endpoint: %w", err)
	case <-stop:
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := srv.Shutdown(ctx)
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
