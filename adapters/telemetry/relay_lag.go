package telemetry

import (
	"context"
	"time"

	"github.com/millrace-go/millrace/outbox"
)

type measuredLag struct {
	outbox.Lag
	at time.Time
}

const (
	// lagTimeout bounds one count, which takes time in proportion to the backlog.
	lagTimeout = 10 * time.Second
	// lagPause is the pause after a count, in multiples of what the count took: so
	// counting never takes more than a twentieth of one connection.
	lagPause = 19
)

// WatchLag calls lag now and then at the interval every, until ctx ends; 0 means
// 15 s. It measures less often while a measurement takes long. One that does not
// succeed within 10 s leaves the gauges as they are, which
// outbox_lag_timestamp_seconds shows, and counts in relay_errors_total as kind
// "lag". pgstore's Store.LagOf measures.
func (m *RelayMetrics) WatchLag(ctx context.Context, lag func(context.Context) (outbox.Lag, error), every time.Duration) {
	if every <= 0 {
		every = 15 * time.Second
	}
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		began := time.Now()
		m.measure(ctx, lag)
		t.Reset(max(every, lagPause*time.Since(began)))
	}
}

func (m *RelayMetrics) measure(ctx context.Context, lag func(context.Context) (outbox.Lag, error)) {
	limited, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	l, err := lag(limited)
	switch {
	case err == nil:
		m.lag.Store(&measuredLag{l, time.Now()})
	case ctx.Err() == nil:
		m.errors.WithLabelValues(errorLag).Inc()
	}
}
