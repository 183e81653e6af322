package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	"github.com/millrace-go/millrace/cmd/millrace/internal/latency"
	"github.com/millrace-go/millrace/outbox"
)

// pace is how hard the writers write.
type pace struct {
	rate    int // transactions per second, over all writers; 0: as many as they can
	length  time.Duration
	writers int
	age     time.Duration // of the long transactions, if there are any, before it counts
}

// arrivalLimit is how long a trial waits for what is under way at its end.
const arrivalLimit = 5 * time.Second

// trial is one run of one variant.
type trial struct {
	latency     *latency.Recorder
	committed   int
	undelivered int // not seen within arrivalLimit; they count with the time waited until then
	rate        float64
	catchUp     time.Duration // from the end of writing until nothing was open, at most arrivalLimit
	verdict     check.Verdict
}

func (t *trial) String() string {
	return fmt.Sprintf("p50 %.2f ms  p99 %.2f ms  max %.2f ms  (%d transactions, %.0f/s, %d not delivered)",
		latency.Milliseconds(t.latency.Quantile(0.5)), latency.Milliseconds(t.latency.Quantile(0.99)),
		latency.Milliseconds(t.latency.Max()), t.committed, t.rate, t.undelivered)
}

// tracker matches the two ends of each message.
type tracker struct {
	mu       sync.Mutex
	measured bool                    // false while warming up
	commits  map[uuid.UUID]committed // not seen yet
	seen     map[uuid.UUID]time.Time // by a consumer that was faster than the answer to COMMIT
	tally    *check.Tally
	events   []check.Event
	count    int // of measured commits
	latency  *latency.Recorder
}

type committed struct {
	at       time.Time
	measured bool
}

func newTracker() *tracker {
	return &tracker{commits: map[uuid.UUID]committed{}, seen: map[uuid.UUID]time.Time{}, tally: check.NewTally(), latency: &latency.Recorder{}}
}

// committed notes that e's commit has returned at the given time.
func (t *tracker) committed(e check.Event, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
	if t.measured {
		t.count++
	}
	seen, ok := t.seen[e.ID]
	if !ok {
		t.commits[e.ID] = committed{at, t.measured}
		return
	}
	delete(t.seen, e.ID)
	if t.measured {
		t.latency.Observe(seen.Sub(at))
	}
}

func (t *tracker) arrived(r check.Record) {
	now := time.Now()
	if !t.tally.Deliver(r) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.commits[r.EventID]
	if !ok {
		t.seen[r.EventID] = now
		return
	}
	delete(t.commits, r.EventID)
	if c.measured {
		t.latency.Observe(now.Sub(c.at))
	}
}

// open is how many messages were committed and not seen.
func (t *tracker) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.commits)
}

func (t *tracker) measure() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.measured = true
}

// result closes the measurement: what is still open counts with its wait so far.
func (t *tracker) result(took time.Duration) *trial {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &trial{latency: t.latency, committed: t.count, rate: float64(t.count) / took.Seconds()}
	now := time.Now()
	for id, c := range t.commits {
		if c.measured {
			r.undelivered++
			t.latency.Observe(now.Sub(c.at))
		}
		t.commits[id] = committed{at: c.at}
	}
	return r
}

// timeLatency lets writers write at their pace and watches the topic.
func (g *serverGroup) timeLatency(ctx context.Context, ent *entities, v variant, p pace, elsewhere *sql.DB) (*trial, error) {
	from, err := g.broker.Ends(ctx, v.topic)
	if err != nil {
		return nil, err
	}
	c, err := v.start(ctx)
	if err != nil {
		return nil, err
	}
	release := func() {}
	if !v.longTx {
		p.age = 0
	} else {
		if release, err = g.hold(ctx, elsewhere, ent.db); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	k := newTracker()
	watching, stopWatching := context.WithCancel(ctx)
	var watch errgroup.Group
	watch.Go(func() error {
		return g.broker.Follow(watching, map[string]check.Offsets{v.topic: from}, k.arrived)
	})
	t, err := g.writeAndWait(ctx, ent, c, k, p)
	release()
	if err == nil {
		_ = until(ctx, "", func() bool { return k.open() == 0 }) // what is missing then is lost, and leaves nothing to the next trial
		t.verdict = k.tally.Judge(k.events)
	}
	stopWatching()
	err = errors.Join(err, watch.Wait(), c.stop())
	return t, err
}

// writeAndWait warms up, writes, and waits for the arrivals.
func (g *serverGroup) writeAndWait(ctx context.Context, ent *entities, c *pipeline, k *tracker, p pace) (*trial, error) {
	warmUp := p
	warmUp.length = max(min(time.Second, p.length/2), p.age)
	if err := ent.write(ctx, c, warmUp, k.committed); err != nil {
		return nil, err
	}
	none := func() bool { return k.open() == 0 }
	if err := within(ctx, arrivalLimit, none); err != nil {
		return nil, err
	}
	k.measure()
	began := time.Now()
	if err := ent.write(ctx, c, p, k.committed); err != nil {
		return nil, err
	}
	took := time.Since(began)
	if err := within(ctx, arrivalLimit, none); err != nil {
		return nil, err
	}
	t := k.result(took)
	t.catchUp = time.Since(began) - took
	return t, nil
}

// write lets the writers write at their pace: each transaction has its time,
// which does not move when one before it was late.
func (ent *entities) write(ctx context.Context, c *pipeline, p pace, committed func(check.Event, time.Time)) error {
	var g errgroup.Group
	began, every := time.Now(), time.Duration(0)
	if p.rate > 0 {
		every = time.Duration(p.writers) * time.Second / time.Duration(p.rate)
	}
	for w := range p.writers {
		g.Go(func() error {
			for due := every * time.Duration(w) / time.Duration(p.writers); due < p.length; due += every {
				if err := pause(ctx, due-time.Since(began)); err != nil {
					return err
				}
				if p.rate == 0 {
					due = time.Since(began)
				}
				e, err := ent.saveAnd(ctx, func(tx *sql.Tx, m outbox.Message) error { return c.append(ctx, tx, m) })
				if err != nil {
					return err
				}
				now := time.Now()
				c.committed(e)
				committed(e, now)
			}
			return nil
		})
	}
	return g.Wait()
}
