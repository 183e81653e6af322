package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/millrace-go/millrace/outbox"
)

// stallLimit is how long messages may wait without moving before the relay counts
// as not ready.
const stallLimit = 15 * time.Second

// Outbox is what the process serves. Its Name is empty if it is the only one.
type Outbox struct {
	Name   string
	Status func() outbox.Status
}

// Handler serves /livez, /readyz and /metrics. Ready means that the messages of
// each outbox move or that there is nothing to move, for this process where it
// leads and for another where it stands by; draining makes it false for good.
// Of several outboxes /readyz tells each in a line, and /readyz?outbox=NAME one.
func Handler(ctx context.Context, outboxes []Outbox, reg *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		asked := outboxes
		if name := r.URL.Query().Get("outbox"); name != "" {
			asked = slices.DeleteFunc(slices.Clone(outboxes), func(o Outbox) bool { return o.Name != name })
		}
		switch {
		case ctx.Err() != nil:
			http.Error(w, "draining", http.StatusServiceUnavailable)
		case len(asked) == 0:
			http.Error(w, "no outbox has this name", http.StatusNotFound)
		default:
			tell(w, asked, time.Now())
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return mux
}

// tell writes how each outbox fares; the answer is that of the worst.
func tell(w http.ResponseWriter, outboxes []Outbox, now time.Time) {
	var lines []string
	ready := true
	for _, o := range outboxes {
		s := o.Status()
		line := "ok: standing by"
		switch {
		case !s.Ready(now, stallLimit):
			line, ready = notReady(s), false
		case s.Leading:
			line = "ok: leading"
		}
		if o.Name != "" {
			line = o.Name + ": " + line
		}
		lines = append(lines, line)
	}
	if text := strings.Join(lines, "\n"); ready {
		fmt.Fprintln(w, text)
	} else {
		http.Error(w, text, http.StatusServiceUnavailable)
	}
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
