package telemetry

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CacheMetrics are the Prometheus metrics of the caches of a process. Its methods
// are the hooks of a cache store:
//
//	cache.Hooks{Requested: m.Requested, Loaded: m.Loaded, Put: m.Put, Overloaded: m.Overloaded,
//		Breaker: m.Breaker, Flushed: m.Flushed, Trouble: m.Trouble}
//
// It is safe for concurrent use.
type CacheMetrics struct {
	requests, puts                          *prometheus.CounterVec
	corrupt, loadErrors, overloads, trouble *prometheus.CounterVec
	loads                                   *prometheus.HistogramVec
	breaker                                 prometheus.Gauge
	flushes                                 prometheus.Counter
}

// loadSeconds are the buckets of a load, from a primary key to its timeout.
var loadSeconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5}

// NewCacheMetrics registers the metrics. It returns an error, having registered
// nothing, if reg has metrics of these names already.
func NewCacheMetrics(reg prometheus.Registerer) (*CacheMetrics, error) {
	if reg == nil {
		return nil, errors.New("cache metrics: registerer: is nil")
	}
	m := &CacheMetrics{
		requests:   cacheCounter("cache_requests_total", "Reads, by what Redis had to say: hit, near, miss, negative, revoked, corrupt, error.", "result"),
		puts:       cacheCounter("cache_put_total", "Entries put or filled: stored, older, absent (nothing to refresh), refused (lease or generation lost), error.", "result"),
		corrupt:    cacheCounter("cache_corrupt_total", "Entries that could not be read, and were removed."),
		loadErrors: cacheCounter("cache_load_errors_total", "Loads from the database that did not work."),
		overloads:  cacheCounter("cache_overloaded_total", "Loads that found no room in time."),
		trouble:    cacheCounter("cache_trouble_total", "Faults of Redis or of entries that no caller was told of."),
		loads: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cache_load_seconds", Help: "Time of one load from the database.", Buckets: loadSeconds}, []string{"cache"}),
		breaker: prometheus.NewGauge(prometheus.GaugeOpts{Name: "cache_breaker_state", Help: "1 while Redis is left alone after errors, else 0."}),
		flushes: prometheus.NewCounter(prometheus.CounterOpts{Name: "cache_flush_detected_total", Help: "How often Redis was found to have lost its data."}),
	}
	var done []prometheus.Collector
	for _, c := range []prometheus.Collector{m.requests, m.puts, m.corrupt, m.loadErrors, m.overloads, m.trouble, m.loads, m.breaker, m.flushes} {
		if err := reg.Register(c); err != nil {
			for _, d := range done {
				reg.Unregister(d)
			}
			return nil, fmt.Errorf("cache metrics: %w", err)
		}
		done = append(done, c)
	}
	return m, nil
}

func cacheCounter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"cache"}, labels...))
}

// Requested counts one answered read.
func (m *CacheMetrics) Requested(cache, result string) {
	m.requests.WithLabelValues(cache, result).Inc()
	if result == "corrupt" {
		m.corrupt.WithLabelValues(cache).Inc()
	}
}

// Loaded measures one load.
func (m *CacheMetrics) Loaded(cache string, took time.Duration, err error) {
	m.loads.WithLabelValues(cache).Observe(took.Seconds())
	if err != nil {
		m.loadErrors.WithLabelValues(cache).Inc()
	}
}

// Put counts n entries.
func (m *CacheMetrics) Put(cache, result string, n int) {
	m.puts.WithLabelValues(cache, result).Add(float64(n))
}

// Overloaded counts a load that found no room.
func (m *CacheMetrics) Overloaded(cache string) { m.overloads.WithLabelValues(cache).Inc() }

// Breaker shows whether Redis is left alone.
func (m *CacheMetrics) Breaker(open bool) {
	if open {
		m.breaker.Set(1)
	} else {
		m.breaker.Set(0)
	}
}

// Flushed counts a loss of data.
func (m *CacheMetrics) Flushed() { m.flushes.Inc() }

// Trouble counts a fault that nobody was told of.
func (m *CacheMetrics) Trouble(cache string, _ error) { m.trouble.WithLabelValues(cache).Inc() }
