package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace-go/millrace/outbox"
)

// stateCollector shows the relay's status, its last delivery and its lag, each of
// one moment, and nothing of what is not known yet.
type stateCollector struct{ m *RelayMetrics }

type stateGauge[S any] struct {
	desc  *prometheus.Desc
	value func(s S, now time.Time) float64
}

func state[S any](name, help string, value func(s S, now time.Time) float64) stateGauge[S] {
	return stateGauge[S]{prometheus.NewDesc(name, help, nil, nil), value}
}

var statusGauges = []stateGauge[outbox.Status]{
	state("relay_leader", "1 if this process leads, 0 if it stands by.", func(s outbox.Status, _ time.Time) float64 {
		if s.Leading {
			return 1
		}
		return 0
	}),
	state("relay_epoch", "Number of this process's present or last leadership.", func(s outbox.Status, _ time.Time) float64 { return float64(s.Epoch) }),
	state("relay_position", "Position of the cursor that this process saved last.", func(s outbox.Status, _ time.Time) float64 { return float64(s.Position) }),
	state("relay_open_gaps", "Gaps that open transactions may still fill; 0 while standing by.", func(s outbox.Status, _ time.Time) float64 { return float64(gaps(s)) }),
	state("relay_in_flight_messages", "Messages read and not yet covered by the saved cursor.", func(s outbox.Status, _ time.Time) float64 { return float64(s.InFlight) }),
	state("relay_instances", "Processes of the fleet, this one included, that stand ready for this outbox; 0 outside of a fleet.",
		func(s outbox.Status, _ time.Time) float64 { return float64(s.Members) }),
	state("relay_stalled_seconds", "How long messages have waited for the broker without any acknowledgement; 0 if none wait.",
		func(s outbox.Status, now time.Time) float64 {
			if !s.Leading {
				return 0
			}
			return age(now, s.Stalled)
		}),
}

var lagGauges = []stateGauge[measuredLag]{
	state("outbox_pending_messages", "Messages committed and not yet acknowledged.", func(l measuredLag, _ time.Time) float64 { return float64(l.Messages) }),
	state("outbox_oldest_pending_age_seconds", "Age of the oldest pending message; 0 if none.", func(l measuredLag, _ time.Time) float64 { return l.Age.Seconds() }),
	state("outbox_parked_messages", "Messages that are parked.", func(l measuredLag, _ time.Time) float64 { return float64(l.Parked) }),
	state("outbox_lag_timestamp_seconds", "When the backlog was last counted.", func(l measuredLag, _ time.Time) float64 { return unix(l.at) }),
}

var (
	oldestGap   = prometheus.NewDesc("relay_oldest_gap_age_seconds", "How long this leader has seen the oldest open gap; 0 if there is none.", nil, nil)
	lastPublish = prometheus.NewDesc("relay_last_publish_timestamp_seconds", "When a batch was last acknowledged or parked whole.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c stateCollector) Describe(out chan<- *prometheus.Desc) {
	for _, g := range statusGauges {
		out <- g.desc
	}
	for _, g := range lagGauges {
		out <- g.desc
	}
	out <- oldestGap
	out <- lastPublish
}

// Collect implements prometheus.Collector.
func (c stateCollector) Collect(out chan<- prometheus.Metric) {
	now := time.Now()
	if status := c.m.status.Load(); status != nil {
		s := (*status)()
		collect(out, statusGauges, s, now)
		oldest := 0.0
		if gaps(s) > 0 {
			oldest = c.m.gapAges.oldest(now)
		}
		out <- prometheus.MustNewConstMetric(oldestGap, prometheus.GaugeValue, oldest)
	}
	if lag := c.m.lag.Load(); lag != nil {
		collect(out, lagGauges, *lag, now)
	}
	if at := c.m.acked.Load(); at != 0 {
		out <- prometheus.MustNewConstMetric(lastPublish, prometheus.GaugeValue, unix(time.Unix(0, at)))
	}
}

func collect[S any](out chan<- prometheus.Metric, gauges []stateGauge[S], s S, now time.Time) {
	for _, g := range gauges {
		out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value(s, now))
	}
}

func gaps(s outbox.Status) int {
	if !s.Leading {
		return 0
	}
	return s.Gaps
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
