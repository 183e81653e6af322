package locktest

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// Locks is a provider under test.
type Locks struct {
	// Open returns providers of two processes on one store, empty at first, which
	// has granted locks before.
	Open func(t *testing.T) (one, other lock.Provider)
	// DB has the outbox line of migrations, for Guard.
	DB *sql.DB
}

const (
	long     = time.Minute // longer than any test
	short    = 150 * time.Millisecond
	patience = 20 * time.Second
)

// Exercise runs the suite.
func Exercise(t *testing.T, open func(t *testing.T) Locks) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, l Locks)
	}{
		{"a lock has one holder", oneHolder},
		{"a claim that asks again has the same grant", askedAgain},
		{"a lapsed lock goes to the next, under a higher fence", lapses},
		{"a renewal keeps the lock and never shortens it", renews},
		{"a lost lock cannot be renewed, released or taken back", lostIsLost},
		{"a released lock is free at once", released},
		{"a released lock is kept for its least time", leastTime},
		{"the least time counts from the acquisition", leastTimeFromAcquisition},
		{"names are locks of their own", names},
		{"holders never overlap and fences rise", contention},
		{"a context that has ended gets no lock", ended},
		{"a guard passes for the holder alone", guards},
		{"guarded writes of two holders do not interleave", interleaving},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, open(t))
		})
	}
}

// NewRequest is a request of a new holder, as of now.
func NewRequest(name string, lease time.Duration) lock.Request {
	return lock.Request{Name: name, ID: uuid.New(), At: time.Now(), Lease: lease}
}

func take(t *testing.T, p lock.Provider, name string, lease time.Duration) lock.Grant {
	t.Helper()
	g, err := p.Acquire(t.Context(), NewRequest(name, lease))
	require.NoError(t, err)
	require.Equal(t, name, g.Name)
	require.NotEmpty(t, g.Owner)
	require.Positive(t, g.Fence)
	return g
}

func held(t *testing.T, p lock.Provider, name string) {
	t.Helper()
	_, err := p.Acquire(t.Context(), NewRequest(name, long))
	require.ErrorIs(t, err, lock.ErrNotAcquired)
}

// takeSoon waits for the lock a and returns how long that took.
func takeSoon(t *testing.T, p lock.Provider) (lock.Grant, time.Duration) {
	t.Helper()
	began := time.Now()
	for {
		g, err := p.Acquire(t.Context(), NewRequest("a", long))
		if err == nil {
			return g, time.Since(began)
		}
		require.ErrorIs(t, err, lock.ErrNotAcquired)
		require.Less(t, time.Since(began), patience, "the lock does not come free")
	}
}

func oneHolder(t *testing.T, l Locks) {
	one, other := l.Open(t)
	take(t, one, "a", long)
	held(t, one, "a")
	held(t, other, "a")
}

func askedAgain(t *testing.T, l Locks) {
	one, other := l.Open(t)
	claim := NewRequest("a", long)
	first, err := one.Acquire(t.Context(), claim)
	require.NoError(t, err)
	again, err := one.Acquire(t.Context(), claim)
	require.NoError(t, err)
	require.Equal(t, first, again)
	held(t, other, "a")
	require.NoError(t, one.Release(t.Context(), again, 0))
	take(t, other, "a", long)
}

func lapses(t *testing.T, l Locks) {
	one, other := l.Open(t)
	first := take(t, one, "a", short)
	second, waited := takeSoon(t, other)
	require.Greater(t, second.Fence, first.Fence)
	require.Less(t, waited, patience)
	held(t, one, "a")
}

func renews(t *testing.T, l Locks) {
	one, other := l.Open(t)
	g := take(t, one, "a", short)
	require.NoError(t, one.Renew(t.Context(), g, long))
	require.NoError(t, one.Renew(t.Context(), g, time.Millisecond), "a shorter lease is no error")
	began := time.Now()
	for time.Since(began) < 2*short {
		held(t, other, "a")
	}
	require.NoError(t, one.Renew(t.Context(), g, long))
}

func lostIsLost(t *testing.T, l Locks) {
	one, other := l.Open(t)
	claim := NewRequest("a", short)
	old, err := one.Acquire(t.Context(), claim)
	require.NoError(t, err)
	g, _ := takeSoon(t, other)
	require.ErrorIs(t, one.Renew(t.Context(), old, long), lock.ErrLost)
	require.ErrorIs(t, one.Release(t.Context(), old, 0), lock.ErrLost)
	held(t, one, "a")
	_, err = one.Acquire(t.Context(), claim)
	require.ErrorIs(t, err, lock.ErrNotAcquired)
	require.NoError(t, other.Renew(t.Context(), g, long), "it is still the other's")
}

func released(t *testing.T, l Locks) {
	one, other := l.Open(t)
	for range 3 {
		first := take(t, one, "a", long)
		require.NoError(t, one.Release(t.Context(), first, 0))
		require.ErrorIs(t, one.Renew(t.Context(), first, long), lock.ErrLost)
		second := take(t, other, "a", long)
		require.Greater(t, second.Fence, first.Fence)
		require.NoError(t, other.Release(t.Context(), second, time.Millisecond/2))
		_, _ = takeSoonAndRelease(t, one)
	}
}

func takeSoonAndRelease(t *testing.T, p lock.Provider) (lock.Grant, error) {
	g, _ := takeSoon(t, p)
	return g, p.Release(t.Context(), g, 0)
}

func leastTime(t *testing.T, l Locks) {
	one, other := l.Open(t)
	asked := time.Now()
	g := take(t, one, "a", long)
	require.NoError(t, one.Release(t.Context(), g, 3*short))
	held(t, other, "a")
	takeSoon(t, other)
	// Less the millisecond by which the clocks of two processes may differ in reading.
	require.GreaterOrEqual(t, time.Since(asked), 3*short-5*time.Millisecond)
}

func leastTimeFromAcquisition(t *testing.T, l Locks) {
	one, other := l.Open(t)
	g := take(t, one, "a", long)
	taken := time.Now()
	for time.Since(taken) < short {
		held(t, other, "a")
	}
	require.NoError(t, one.Release(t.Context(), g, short), "which is over")
	take(t, other, "a", long)
}

func names(t *testing.T, l Locks) {
	one, other := l.Open(t)
	for _, name := range []string{"a", "A", "a:fence", "a.b-c_d:9", fmt.Sprintf("%064d", 1)} {
		take(t, one, name, long)
		held(t, other, name)
	}
}

func contention(t *testing.T, l Locks) {
	one, other := l.Open(t)
	var mu sync.Mutex
	inside, last, taken := 0, int64(0), 0
	var all sync.WaitGroup
	for i := range 8 {
		p := []lock.Provider{one, other}[i%2]
		all.Go(func() {
			for taken := 0; taken < 10; {
				g, err := p.Acquire(t.Context(), NewRequest("a", long))
				if err != nil {
					continue
				}
				taken++
				mu.Lock()
				inside++
				alone, rising := inside == 1, g.Fence > last
				last = g.Fence
				mu.Unlock()
				if !alone || !rising {
					t.Errorf("holder %d: alone %t, fence rises %t", i, alone, rising)
				}
				mu.Lock()
				inside--
				mu.Unlock()
				if err := p.Release(t.Context(), g, 0); err != nil {
					t.Error(err)
				}
			}
			mu.Lock()
			taken += 10
			mu.Unlock()
		})
	}
	all.Wait()
	require.Equal(t, 80, taken)
}

func ended(t *testing.T, l Locks) {
	one, other := l.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g, err := one.Acquire(ctx, NewRequest("a", long))
	require.Error(t, err)
	require.NotErrorIs(t, err, lock.ErrNotAcquired)
	_ = one.Release(t.Context(), g, 0) // as a Locker does
	take(t, other, "a", long)
}
