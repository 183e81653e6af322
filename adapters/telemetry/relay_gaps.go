package telemetry

import (
	"sync"
	"time"

	"github.com/millrace-go/millrace/outbox"
)

// gapAges remembers since when each gap of a leader's cursor is open. A gap that
// was part of an older, wider one is as old as that.
type gapAges struct {
	mu    sync.Mutex
	began time.Time // of the leadership
	seen  bool      // a cursor was saved since
	gaps  []agedGap // in rising order
}

type agedGap struct {
	outbox.Range
	since time.Time
}

// start forgets what an earlier leadership saw.
func (g *gapAges) start(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.began, g.seen, g.gaps = now, false, nil
}

// saw takes in the gaps of a saved cursor.
func (g *gapAges) saw(gaps []outbox.Range, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.seen { // what the leadership found is as old as itself at least
		now = g.began
	}
	aged := make([]agedGap, len(gaps))
	i := 0
	for n, r := range gaps {
		since := now
		for i < len(g.gaps) && g.gaps[i].Hi < r.Lo {
			i++
		}
		for j := i; j < len(g.gaps) && g.gaps[j].Lo <= r.Hi; j++ {
			if g.gaps[j].since.Before(since) {
				since = g.gaps[j].since
			}
		}
		aged[n] = agedGap{r, since}
	}
	g.gaps, g.seen = aged, true
}

// oldest is the age, in seconds, of the oldest gap of a cursor that has any.
func (g *gapAges) oldest(now time.Time) float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.seen {
		return age(now, g.began)
	}
	var since time.Time
	for _, gap := range g.gaps {
		if since.IsZero() || gap.since.Before(since) {
			since = gap.since
		}
	}
	return age(now, since)
}
