package telemetry

import (
	"context"
	"time"
)

// Lag is how far a relay is behind; pgstore's Store.Lag counts it.
type Lag struct {
	Messages int64         // committed and not yet acknowledged
	Age      time.Duration // of the oldest of them; 0 if none
	Parked   int64
}

// LagFunc measures the lag of a relay.
type LagFunc func(ctx context.Context) (Lag, error)

type measuredLag struct {
	Lag
	at time.Time
}

const (
	// lagTimeout bounds one count, which takes time in proportion to the backlog.
	lagTimeout = 10 * time.Second
	// lagRest is how many times as long as it took a count is rested from, so
	// that counting never takes more than a twentieth of one connection.
	lagRest = 19
)

// WatchLag measures now, and then each every, until ctx ends; 0 means 15 s. It
// measures more seldom while a measurement takes long. One that does not succeed
// within 10 s leaves the gauges as they are, which outbox_lag_timestamp_seconds
// shows, and counts in relay_errors_total as kind "lag".
func (m *RelayMetrics) WatchLag(ctx context.Context, lag LagFunc, every time.Duration) {
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
		t.Reset(max(every, lagRest*time.Since(began)))
	}
}

func (m *RelayMetrics) measure(ctx context.Context, lag LagFunc) {
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
