package schedule

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the Prometheus metrics of locks and jobs. Give what Hooks returns to
// the locker's config. They are safe for concurrent use.
type Metrics struct {
	attempts, acquired, notAcquired, failed, lost *prometheus.CounterVec

	duration *prometheus.HistogramVec
	active   *prometheus.GaugeVec
	success  *prometheus.GaugeVec
}

// runSeconds are the buckets of a run: from a look that finds nothing to an hour.
var runSeconds = []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 900, 3600}

// NewMetrics registers the metrics. It returns an error, having registered
// nothing, if reg has metrics of these names already.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	if reg == nil {
		return nil, errors.New("job metrics: registerer: is nil")
	}
	m := &Metrics{
		attempts:    counter("job_lock_attempts_total", "Times a lock was asked for."),
		acquired:    counter("job_lock_acquired_total", "Times it was given."),
		notAcquired: counter("job_lock_not_acquired_total", "Times somebody else had it."),
		failed:      counter("job_lock_errors_total", "Times the store of the locks did not answer, or granted nothing after a flush; the job was skipped."),
		lost:        counter("job_lock_lost_total", "Times a task was cancelled because its lock was lost or might have been."),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "job_execution_seconds", Help: "Time that a task ran under its lock, by how it ended.", Buckets: runSeconds}, []string{"lock_name", "outcome"}),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "job_execution_active", Help: "Tasks at work."}, []string{"lock_name"}),
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "job_last_success_timestamp_seconds", Help: "When a task last ended well in this process."}, []string{"lock_name"}),
	}
	var done []prometheus.Collector
	for _, c := range []prometheus.Collector{m.attempts, m.acquired, m.notAcquired, m.failed, m.lost, m.duration, m.active, m.success} {
		if err := reg.Register(c); err != nil {
			for _, d := range done {
				reg.Unregister(d)
			}
			return nil, fmt.Errorf("job metrics: %w", err)
		}
		done = append(done, c)
	}
	return m, nil
}

func counter(name, help string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"lock_name"})
}

// Hooks returns hooks that count, and then call those of h.
func (m *Metrics) Hooks(h Hooks) Hooks {
	out := h
	out.Attempt = func(name string) {
		m.attempts.WithLabelValues(name).Inc()
		call(h.Attempt, name)
	}
	out.Acquired = func(g Grant) {
		m.acquired.WithLabelValues(g.Name).Inc()
		call(h.Acquired, g)
	}
	out.NotAcquired = func(name string) {
		m.notAcquired.WithLabelValues(name).Inc()
		call(h.NotAcquired, name)
	}
	out.Failed = func(name string, err error) {
		m.failed.WithLabelValues(name).Inc()
		call2(h.Failed, name, err)
	}
	out.Lost = func(g Grant, err error) {
		m.lost.WithLabelValues(g.Name).Inc()
		call2(h.Lost, g, err)
	}
	out.Started = func(g Grant) {
		m.active.WithLabelValues(g.Name).Inc()
		call(h.Started, g)
	}
	out.Finished = func(g Grant, o Outcome, took time.Duration, err error) {
		m.active.WithLabelValues(g.Name).Dec()
		m.duration.WithLabelValues(g.Name, string(o)).Observe(took.Seconds())
		if o == OutcomeOK {
			m.success.WithLabelValues(g.Name).SetToCurrentTime()
		}
		if h.Finished != nil {
			h.Finished(g, o, took, err)
		}
	}
	return out
}
