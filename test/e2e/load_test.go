package e2e

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/lab"
)

// load is a writer at work: every few milliseconds a transaction with one event
// for each of its keys. It goes on over errors, as a service would.
type load struct {
	stop    chan struct{}
	stopped sync.WaitGroup
	once    sync.Once
	rows    atomic.Int64
	failed  atomic.Int64
	began   time.Time
}

const loadKeys = 40

// load starts a writer, which the end of the test stops at the latest.
func (p *pipe) load(t *testing.T) *load { return p.loadEvery(t, 10*time.Millisecond) }

// loadEvery is load with a transaction each pause.
func (p *pipe) loadEvery(t *testing.T, pause time.Duration) *load {
	l := &load{stop: make(chan struct{}), began: time.Now()}
	l.stopped.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for version := 1; ; version++ {
			_, err := p.db.DB.Exec(`
				INSERT INTO outbox (topic, key, aggregate_version, payload)
				SELECT $1, 'load-' || k, $2, convert_to(repeat('x', 300), 'UTF8') FROM generate_series(1, $3) k`, p.topic, version, loadKeys)
			if err != nil {
				l.failed.Add(1)
			} else {
				l.rows.Add(loadKeys)
			}
			select {
			case <-l.stop:
				return
			case <-tick.C:
			}
		}
	})
	t.Cleanup(l.end)
	return l
}

// end stops the writer after the transaction at work.
func (l *load) end() {
	l.once.Do(func() { close(l.stop) })
	l.stopped.Wait()
}

// rate is rows a second so far.
func (l *load) rate() float64 { return float64(l.rows.Load()) / time.Since(l.began).Seconds() }

// await waits until n more rows are written.
func (l *load) await(t *testing.T, n int64) {
	t.Helper()
	from := l.rows.Load()
	require.Eventually(t, func() bool { return l.rows.Load() >= from+n }, liveness, 5*time.Millisecond)
}

// place is a saved cursor.
type place struct {
	owner           string
	epoch, position int64
}

// place reads the cursor of the default relay; the zero place if there is none.
func (p *pipe) place() (at place) {
	_ = p.db.DB.QueryRow(`SELECT owner, epoch, position FROM outbox_cursor WHERE relay = 'relay'`).Scan(&at.owner, &at.epoch, &at.position)
	return at
}

// awaitLeader waits until a relay leads and has moved the cursor.
func (p *pipe) awaitLeader(t *testing.T) place {
	t.Helper()
	require.Eventually(t, func() bool { at := p.place(); return at.owner != "" && at.position > 0 }, liveness, 5*time.Millisecond)
	return p.place()
}

// inOrder returns two relays with the one that leads first. On a busy machine a
// leader may have lost its lease to its standby by itself.
func (p *pipe) inOrder(t *testing.T, a, b *lab.Program) (leader, standby *lab.Program) {
	t.Helper()
	if owner := p.awaitLeader(t).owner; strings.Contains(owner, fmt.Sprintf(":%d:", b.PID())) {
		return b, a
	}
	return a, b
}

// takeover waits until a later epoch than that of old has moved the cursor, and
// returns how long after began it was.
func (p *pipe) takeover(t *testing.T, old place, began time.Time) time.Duration {
	t.Helper()
	var took time.Duration
	require.Eventually(t, func() bool {
		if at := p.place(); at.epoch > old.epoch && at.position > old.position && took == 0 {
			took = time.Since(began)
		}
		return took > 0
	}, liveness, 2*time.Millisecond, "nobody took over")
	return took
}

// watch looks at the cursor all the time until stop is called, which fails the
// test if an epoch or a position was ever taken back.
func (p *pipe) watch(t *testing.T) (stop func()) {
	done, quit := make(chan struct{}), make(chan struct{})
	var fell []place
	go func() {
		defer close(done)
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for last := (place{}); ; {
			at := p.place()
			if at.epoch > 0 { // the database answered
				if at.epoch < last.epoch || at.position < last.position {
					fell = append(fell, last, at)
				}
				last = at
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		t.Helper()
		close(quit)
		<-done
		require.Empty(t, fell, "the cursor was set back")
	}
}
