package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/test/harness"
)

// stopwatch knows when events were committed and when they were read.
type stopwatch struct {
	mu        sync.Mutex
	committed map[uuid.UUID]time.Time
	read      map[uuid.UUID]time.Time
}

func newStopwatch() *stopwatch {
	return &stopwatch{committed: map[uuid.UUID]time.Time{}, read: map[uuid.UUID]time.Time{}}
}

func (s *stopwatch) note(times map[uuid.UUID]time.Time, id uuid.UUID) {
	now := time.Now()
	s.mu.Lock()
	times[id] = now
	s.mu.Unlock()
}

// delays are sorted. An event may be read before its writer learns of the commit.
func (s *stopwatch) delays() []time.Duration {
	var all []time.Duration
	for id, at := range s.committed {
		if read, ok := s.read[id]; ok {
			all = append(all, max(0, read.Sub(at)))
		}
	}
	slices.Sort(all)
	return all
}

// TestReading_LongTransactionsDelayOnlyThemselves demands that all short
// transactions are read while a long one that began before them is still open. How
// long they wait to be read, without and beside long ones, is logged.
func TestReading_LongTransactionsDelayOnlyThemselves(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	store, err := New(db, Config{})
	require.NoError(t, err)
	opened, err := store.Acquire(t.Context(), "delay", "reader", time.Hour)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, opened.Release(context.Background())) })

	alone := measureDelay(t, db, opened.(*session), 0)
	open, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer open.Rollback()
	_, err = open.ExecContext(t.Context(), "INSERT INTO outbox (topic, key) VALUES ('delay', 'open')")
	require.NoError(t, err)
	beside := measureDelay(t, db, opened.(*session), 5)
	require.NoError(t, open.Commit())
	p50, p99 := percentile(alone, 50), percentile(alone, 99)
	t.Logf("short transactions alone: p50 %s, p99 %s of %d", p50, p99, len(alone))
	besideP50, besideP99 := percentile(beside, 50), percentile(beside, 99)
	t.Logf("beside 5 long ones:       p50 %s, p99 %s of %d; p99 ratio %.2f", besideP50, besideP99, len(beside), float64(besideP99)/float64(p99))
}

func percentile(sorted []time.Duration, p int) time.Duration { return sorted[len(sorted)*p/100] }

// measureDelay lets 8 writers commit short transactions for some seconds beside
// so many long ones, and polls every 5 ms.
func measureDelay(t *testing.T, db *sql.DB, s *session, long int) []time.Duration {
	length := 4 * time.Second
	if testing.Short() {
		length = time.Second
	}
	watch, stop := newStopwatch(), make(chan struct{})
	var work errgroup.Group
	var writing atomic.Int32
	for i := range 8 + long {
		writing.Add(1)
		work.Go(func() error {
			defer writing.Add(-1)
			for {
				hold := time.Duration(0)
				if i >= 8 {
					hold = 300*time.Millisecond + time.Duration(i)*100*time.Millisecond
				}
				if err := commitOne(t.Context(), db, watch, stop, hold); err != nil {
					return err
				}
				if !wait(stop, 10*time.Millisecond) {
					return nil
				}
			}
		})
	}
	timer := time.AfterFunc(length, func() { close(stop) })
	defer timer.Stop()
	poll := func() {
		batch, err := s.reading.poll(t.Context(), 1000, 1<<30)
		require.NoError(t, err)
		for _, e := range batch.Entries {
			if e.Key == "short" {
				watch.note(watch.read, e.ID)
			}
		}
	}
	for writing.Load() > 0 {
		poll()
		wait(nil, 5*time.Millisecond)
	}
	require.NoError(t, work.Wait())
	harness.Await(t, 2*time.Minute, "all short transactions are read", func(context.Context) error {
		if poll(); len(watch.read) < len(watch.committed) {
			return fmt.Errorf("%d of %d", len(watch.read), len(watch.committed))
		}
		return nil
	})
	delays := watch.delays()
	require.NotEmpty(t, delays)
	return delays
}

// commitOne commits one event, after having held its position for a while.
func commitOne(ctx context.Context, db *sql.DB, watch *stopwatch, stop chan struct{}, hold time.Duration) error {
	id, key := uuid.New(), "short"
	if hold > 0 {
		key = "long"
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "INSERT INTO outbox (event_id, topic, key) VALUES ($1, 'delay', $2)", id, key); err != nil {
		return err
	}
	if hold > 0 {
		wait(stop, hold)
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if hold == 0 {
		watch.note(watch.committed, id)
	}
	return nil
}
