package consumer

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// circuit is the breaker of one partition.
type circuit struct {
	breaker *Breaker
	cfg     *BreakerConfig
	key     circuitKey

	mu      sync.Mutex
	present int // deliveries between enter and leave
	recent  outcomes
	count   int // records in the series of failures
	series  int // number of that series

	open            bool
	since           time.Time
	err             error
	probes          int
	probing         bool
	lastUnavailable time.Time       // when an attempt last found the dependency unavailable; zero if none has since it opened
	due             time.Time       // of the next attempt
	held            []*heldDelivery // in the order of their turns
	changed         chan struct{}   // closed when what is above has changed

	pausing sync.Mutex
	paused  bool // what the pauser was told last
}

func newCircuit(b *Breaker, key circuitKey) *circuit {
	return &circuit{breaker: b, cfg: &b.cfg, key: key, series: 1, recent: outcomes{size: b.cfg.Window}, changed: make(chan struct{})}
}

func (c *circuit) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.present++
}

// leave lets the partition be delivered again when nothing is left to be tried.
func (c *circuit) leave() {
	c.mu.Lock()
	c.present--
	alone := c.open && c.present == 0
	c.mu.Unlock()
	if alone {
		c.pause()
	}
}

// wait waits, if the breaker is open, for the delivery's turn or until it closes,
// and reports false if the delivery is to be left unfinished.
func (c *circuit) wait(ctx context.Context, g *heldDelivery) (probe, ok bool) {
	c.mu.Lock()
	if !c.open || g.released {
		c.mu.Unlock()
		return false, true
	}
	if g.since.IsZero() {
		g.since = time.Now()
	}
	c.held = append(c.held, g)
	c.mu.Unlock()
	c.pause()
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.dismiss(g)
	for c.open {
		now := time.Now()
		until := later(g.since, c.lastUnavailable).Add(c.cfg.MaxHold)
		mine := c.held[0] == g && !c.probing
		switch {
		case mine && !now.Before(c.due):
			c.probing = true
			return true, true
		case c.cfg.MaxHold > 0 && !now.Before(until):
			g.released = true
			return false, true
		case mine && (c.cfg.MaxHold < 0 || c.due.Before(until)):
			until = c.due
		case c.cfg.MaxHold < 0:
			until = now.Add(time.Hour)
		}
		if !c.waitFor(ctx, until.Sub(now)) {
			return false, false
		}
	}
	return false, true
}

// waitFor waits, without the lock, for a change or for d.
func (c *circuit) waitFor(ctx context.Context, d time.Duration) bool {
	changed := c.changed
	c.mu.Unlock()
	defer c.mu.Lock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-ctx.Done():
		return false
	case <-deliveryFrom(ctx).stop:
		return false
	}
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// dismiss takes g out of the queue. The caller holds mu.
func (c *circuit) dismiss(g *heldDelivery) {
	c.held = slices.DeleteFunc(c.held, func(o *heldDelivery) bool { return o == g })
	c.wake()
}

// wake wakes every delivery that waits. The caller holds mu.
func (c *circuit) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// report records one attempt and reports whether the delivery is to be held.
func (c *circuit) report(g *heldDelivery, probe bool, w weight, err error) (hold bool) {
	c.mu.Lock()
	was, probed := c.open, false
	if probe {
		c.probing = false
		c.wake()
	}
	switch w {
	case success:
		c.count = 0
		c.series++
		if c.open {
			c.close()
		}
	case unavailable:
		probed, hold = c.notReached(g, probe, err), true
	case failing:
		probed = c.failed(g, probe, err)
		hold = c.open && !g.released
	}
	st, turned := c.statusNow(), c.open != was
	c.mu.Unlock()
	if turned {
		c.pause()
	}
	if probed {
		c.cfg.Hooks.Probed(st)
	}
	return hold
}

// notReached records an attempt that did not reach the dependency, and reports
// whether it was a probe of an open breaker. The caller holds mu.
func (c *circuit) notReached(g *heldDelivery, probe bool, err error) (probed bool) {
	if !c.open {
		c.trip()
		probe = false
	}
	c.err, c.lastUnavailable = err, time.Now()
	g.released = false // it is not to blame for this, whatever it was released for
	if probe {
		c.probes++
		c.postpone()
	}
	return probe
}

// failed records an attempt that failed, and reports whether it was a probe of an
// open breaker. The caller holds mu.
func (c *circuit) failed(g *heldDelivery, probe bool, err error) (probed bool) {
	if probe && !c.lastUnavailable.IsZero() { // the dependency answers: the record fails by itself
		c.close()
		c.count, probe = 0, false
		c.series++
	}
	c.err = err
	if g.series != c.series {
		g.series = c.series
		c.count++
	}
	if probe {
		c.probes++
		c.postpone()
	} else if !c.open && c.cfg.InARow > 0 && c.count >= c.cfg.InARow {
		c.trip()
	}
	return probe
}

// conclude records the end of a delivery and reports whether it is to be held
// nevertheless.
func (c *circuit) conclude(g *heldDelivery, err error) (hold bool) {
	failed, tripped := usedUp(err), false
	c.mu.Lock()
	if !c.open {
		c.recent.add(failed)
		if tripped = failed && c.cfg.Share > 0 && c.recent.percent() > c.cfg.Share; tripped {
			c.trip()
		}
	}
	hold = failed && c.open && !g.released
	c.mu.Unlock()
	if tripped {
		c.pause()
	}
	return hold
}

// trip opens the breaker. The caller holds mu.
func (c *circuit) trip() {
	c.breaker.open.Add(1)
	c.open, c.since, c.probes = true, time.Now(), 0
	c.postpone()
}

// postpone sets the time of the next attempt. The caller holds mu.
func (c *circuit) postpone() {
	spread := 0.9 + 0.2*rand.Float64()
	c.due = time.Now().Add(time.Duration(float64(c.cfg.ProbeEvery) * spread))
}

// close closes the breaker. The caller holds mu.
func (c *circuit) close() {
	c.breaker.open.Add(-1)
	c.open, c.err, c.lastUnavailable = false, nil, time.Time{}
	c.recent.clear()
	c.wake()
}

// pause tells pauser and hooks what is so now, if they do not know it. The
// partition is paused while the breaker is open and there is a delivery to try.
func (c *circuit) pause() {
	c.pausing.Lock()
	defer c.pausing.Unlock()
	c.mu.Lock()
	st := c.statusNow()
	c.mu.Unlock()
	if st.Open == c.paused {
		return
	}
	c.paused = st.Open
	if st.Open {
		c.cfg.Pauser.Pause(c.key.topic, c.key.id)
		c.cfg.Hooks.Paused(st)
	} else {
		c.cfg.Pauser.Resume(c.key.topic, c.key.id)
		c.cfg.Hooks.Resumed(st)
	}
}

func (c *circuit) status() BreakerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.statusNow()
}

func (c *circuit) statusNow() BreakerStatus {
	return BreakerStatus{
		Handler: c.key.handler, Topic: c.key.topic, Group: c.key.group, Partition: c.key.id,
		Open: c.open && c.present > 0, Since: c.since, Held: len(c.held), Probes: c.probes, Err: c.err,
	}
}

// outcomes remembers which of the last records failed.
type outcomes struct {
	size   int
	last   []bool
	at     int
	failed int
}

func (w *outcomes) add(failed bool) {
	if len(w.last) < w.size {
		w.last = append(w.last, failed)
	} else {
		if w.last[w.at] {
			w.failed--
		}
		w.last[w.at] = failed
		w.at = (w.at + 1) % w.size
	}
	if failed {
		w.failed++
	}
}

// percent of the records that failed; 0 until there are enough.
func (w *outcomes) percent() int {
	if len(w.last) < w.size {
		return 0
	}
	return 100 * w.failed / w.size
}

func (w *outcomes) clear() { w.last, w.at, w.failed = w.last[:0], 0, 0 }
