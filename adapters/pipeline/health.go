package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	stalledAfter = 15 * time.Second // without messages that move
	readyTimeout = 5 * time.Second  // for the whole of /readyz
)

// state is what /readyz reports beside the status of the parts.
type state struct {
	mu      sync.Mutex
	waiting map[string]error   // parts that Run waits for
	lost    map[string]failure // the last failures of subscribers, by group and topic
	stopped bool
}

type failure struct {
	err error
	at  time.Time
}

// waits records what is wrong with a part that is waited for; nil is nothing.
func (s *state) waits(part string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = map[string]error{}
	}
	if s.waiting[part] = err; err == nil {
		delete(s.waiting, part)
	}
}

// loses records a failure of a subscriber; nil is its return.
func (s *state) loses(subscriber string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost == nil {
		s.lost = map[string]failure{}
	}
	if s.lost[subscriber] = (failure{err, time.Now()}); err == nil {
		delete(s.lost, subscriber)
	}
}

func (s *state) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// problems lists what is known, in the order of names.
func (s *state) problems(now time.Time) (waiting bool, errs []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return true, []error{errors.New("stopping")}
	}
	for _, part := range slices.Sorted(maps.Keys(s.waiting)) {
		errs = append(errs, fmt.Errorf("%s: waiting: %w", part, s.waiting[part]))
	}
	for _, subscriber := range slices.Sorted(maps.Keys(s.lost)) {
		if t := s.lost[subscriber]; now.Sub(t.at) < stalledAfter {
			errs = append(errs, fmt.Errorf("consumer %s: %w", subscriber, t.err))
		}
	}
	return len(s.waiting) > 0, errs
}

// Ready returns nil while the pipeline does all of its work, and otherwise one
// error for each part that does not go on, with the cause: a server that is waited
// for, Postgres, messages that do not move, Kafka, a group that is paused, dead
// letters that cannot be published, and the checks of the Config.
func (p *Pipeline) Ready(ctx context.Context) error {
	p.mu.Lock()
	started, groups := p.started, slices.Clone(p.groups)
	p.mu.Unlock()
	if !started {
		return errors.New("not running")
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	waiting, errs := p.state.problems(time.Now())
	if !waiting {
		errs = append(errs, p.relayReady(ctx)...)
	}
	for _, g := range groups {
		if g.breaker == nil {
			continue
		}
		for _, b := range g.breaker.Status() {
			errs = append(errs, fmt.Errorf("group %s: paused at %s/%d: %w", g.name, b.Topic, b.Partition, b.Err))
		}
	}
	if n := p.parts.Router.Status().DeadLettersBlocked; n > 0 {
		errs = append(errs, fmt.Errorf("dead letters: %d cannot be published", n))
	}
	for _, name := range slices.Sorted(maps.Keys(p.cfg.Checks)) {
		if err := p.cfg.Checks[name](ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// relayReady asks for what carries the messages.
func (p *Pipeline) relayReady(ctx context.Context) (errs []error) {
	if err := p.db.PingContext(ctx); err != nil {
		errs = append(errs, fmt.Errorf("postgres: %w", err))
	}
	if st := p.parts.Relay.Status(); !st.Ready(time.Now(), stalledAfter) {
		errs = append(errs, fmt.Errorf("relay: messages do not move: %w", cmpErr(st.Err, errors.New("nothing read yet"))))
	}
	if st := p.parts.Publisher.State(); !st.Reachable {
		errs = append(errs, fmt.Errorf("kafka: cannot be reached since %s: %w", st.Since.UTC().Format(time.RFC3339), st.Err))
	}
	return errs
}

func cmpErr(err, otherwise error) error {
	if err == nil {
		return otherwise
	}
	return err
}

// Handler serves /livez, which answers 200 as long as the process does, /readyz,
// which answers 200 or else 503 with a line for each part that does not go on, and
// /metrics, the Prometheus metrics of all parts. It may be served before Run.
func (p *Pipeline) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := p.Ready(r.Context()); err != nil {
			answer(w, http.StatusServiceUnavailable, "not ready:\n"+err.Error())
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.cfg.Registry, promhttp.HandlerOpts{}))
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
