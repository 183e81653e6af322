// Package cachemetrics has the Prometheus metrics of the caches of a process.
package cachemetrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/telemetry/internal/prom"
)

// Metrics are the metrics of all caches that share a store. Give what Hooks returns
// to the store. They are safe for concurrent use.
type Metrics struct {
	requests, puts                          *prometheus.CounterVec
	corrupt, loadErrors, overloads, trouble *prometheus.CounterVec
	loads                                   *prometheus.HistogramVec
	breaker                                 prometheus.Gauge
	flushes                                 prometheus.Counter
}

// loadSeconds are the buckets of a load, from a primary key to its timeout.
var loadSeconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5}

// New registers the metrics. It returns an error, having registered
// nothing, if reg has metrics of these names already.
func New(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		requests:   counter("cache_requests_total", "Reads, by what Redis had to say: hit, near, miss, negative, revoked, corrupt, error.", "result"),
		puts:       counter("cache_put_total", "Entries put or filled: stored, older, absent (nothing to refresh), refused (lease or generation lost), error.", "result"),
		corrupt:    counter("cache_corrupt_total", "Entries that could not be read, and were removed."),
		loadErrors: counter("cache_load_errors_total", "Loads from the database that did not work."),
		overloads:  counter("cache_overloaded_total", "Loads that found no room in time."),
		trouble:    counter("cache_trouble_total", "Faults of Redis or of entries that no caller saw."),
		loads: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cache_load_seconds", Help: "Time of one load from the database.", Buckets: loadSeconds}, []string{"cache"}),
		breaker: prometheus.NewGauge(prometheus.GaugeOpts{Name: "cache_breaker_state", Help: "1 while Redis is left alone after errors, else 0."}),
		flushes: prometheus.NewCounter(prometheus.CounterOpts{Name: "cache_flush_detected_total", Help: "How often Redis was found to have lost its data."}),
	}
	return m, prom.Register(reg, "cache metrics", m.requests, m.puts, m.corrupt, m.loadErrors, m.overloads, m.trouble, m.loads, m.breaker, m.flushes)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"cache"}, labels...))
}

// Hooks returns hooks that count what happens.
func (m *Metrics) Hooks() cache.Hooks {
	return cache.Hooks{
		Requested: func(cacheName string, result cache.Result) {
			m.requests.WithLabelValues(cacheName, string(result)).Inc()
			if result == cache.ResultCorrupt {
				m.corrupt.WithLabelValues(cacheName).Inc()
			}
		},
		Loaded: func(l cache.LoadInfo) {
			m.loads.WithLabelValues(l.Cache).Observe(l.Took.Seconds())
			if l.Err != nil {
				m.loadErrors.WithLabelValues(l.Cache).Inc()
			}
		},
		Put:        func(p cache.PutInfo) { m.puts.WithLabelValues(p.Cache, string(p.Result)).Add(float64(p.N)) },
		Overloaded: func(cacheName string) { m.overloads.WithLabelValues(cacheName).Inc() },
		Breaker: func(open bool, _ error) {
			m.breaker.Set(0)
			if open {
				m.breaker.Set(1)
			}
		},
		Flushed: m.flushes.Inc,
		Trouble: func(cacheName string, _ error) { m.trouble.WithLabelValues(cacheName).Inc() },
	}
}
