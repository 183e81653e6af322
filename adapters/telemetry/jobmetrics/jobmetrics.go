// Package jobmetrics has the Prometheus metrics of locks and scheduled jobs.
package jobmetrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/telemetry/internal/prom"
)

// Metrics are the metrics of locks and jobs. Give what Hooks returns to the
// locker. They are safe for concurrent use.
type Metrics struct {
	attempts, acquired, notAcquired, failed, lost *prometheus.CounterVec

	duration *prometheus.HistogramVec
	active   *prometheus.GaugeVec
	success  *prometheus.GaugeVec
}

// runSeconds are the buckets of a run: from one that finds nothing to do, to an hour.
var runSeconds = []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 900, 3600}

// New registers the metrics. It returns an error, having registered nothing, if
// reg has metrics of these names already.
func New(reg prometheus.Registerer) (*Metrics, error) {
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
	return m, prom.Register(reg, "job metrics", m.attempts, m.acquired, m.notAcquired, m.failed, m.lost, m.duration, m.active, m.success)
}

func counter(name, help string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"lock_name"})
}

// Hooks returns hooks that count what happens to locks and tasks.
func (m *Metrics) Hooks() lock.Hooks {
	return lock.Hooks{
		Attempt:     func(name string) { m.attempts.WithLabelValues(name).Inc() },
		Acquired:    func(g lock.Grant) { m.acquired.WithLabelValues(g.Name).Inc() },
		NotAcquired: func(name string) { m.notAcquired.WithLabelValues(name).Inc() },
		Failed:      func(name string, _ error) { m.failed.WithLabelValues(name).Inc() },
		Lost:        func(g lock.Grant, _ error) { m.lost.WithLabelValues(g.Name).Inc() },
		Started:     func(g lock.Grant) { m.active.WithLabelValues(g.Name).Inc() },
		Finished: func(f lock.Finish) {
			m.active.WithLabelValues(f.Grant.Name).Dec()
			m.duration.WithLabelValues(f.Grant.Name, string(f.Outcome)).Observe(f.Took.Seconds())
			if f.Outcome == lock.OutcomeOK {
				m.success.WithLabelValues(f.Grant.Name).SetToCurrentTime()
			}
		},
	}
}
