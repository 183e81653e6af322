package outbox

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// settled lets the world come to rest and demands that it is even, that nothing
// is without a leader, and that from then on nothing moves.
func settled(t *testing.T, w *world, context string) {
	t.Helper()
	w.run(time.Duration(6+len(w.outbox)) * 3 * w.ttl)
	difference, unled := w.spread()
	require.Zero(t, unled, "%s: %v\n%v", context, w.leads(), w.history)
	require.LessOrEqual(t, difference, 1, "%s: %v\n%v", context, w.leads(), w.history)
	before := w.handOvers
	w.run(time.Minute)
	require.Equal(t, before, w.handOvers, "%s: it moves on: %v", context, w.history)
}

// seeds runs a simulation with n seeds that no run before had, under -short with a
// tenth of them.
func seeds(t *testing.T, n int, run func(t *testing.T, seed uint64)) {
	if testing.Short() {
		n = max(2, n/10)
	}
	first := uint64(time.Now().UnixNano())
	t.Logf("seeds %d to %d", first, first+uint64(n)-1)
	for seed := first; seed < first+uint64(n); seed++ {
		run(t, seed)
	}
}

func TestBalance_GivesANewInstanceItsShareInFewestMoves(t *testing.T) {
	t.Parallel()
	seeds(t, 40, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(seed, 1+rng.IntN(12))
		for range 1 + rng.IntN(4) {
			w.join()
		}
		settled(t, w, fmt.Sprint("seed ", seed))
		before := w.handOvers
		share := len(w.outbox) / (len(w.running) + 1)
		in := w.join()
		settled(t, w, fmt.Sprint("seed ", seed))
		require.Equal(t, share, w.leads()[in.id], "seed %d: it takes what makes the spread even, and no more: %v", seed, w.history)
		require.Equal(t, before+share, w.handOvers, "seed %d: %v", seed, w.history)
	})
}

func TestBalance_OutboxesOfADeadInstanceAreTakenWithinTheirLease(t *testing.T) {
	t.Parallel()
	seeds(t, 40, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(seed, 2+rng.IntN(10))
		for range 2 + rng.IntN(4) {
			w.join()
		}
		settled(t, w, fmt.Sprint("seed ", seed))
		w.unled = nil
		w.kill(w.running[rng.IntN(len(w.running))])
		w.run(5 * w.ttl)
		for _, d := range w.unled { // after the end of the lease
			require.Less(t, d, w.ttl, "seed %d", seed)
		}
		settled(t, w, fmt.Sprint("seed ", seed))
	})
}

func TestBalance_SurvivesAnythingThatEndsAndSettles(t *testing.T) {
	t.Parallel()
	seeds(t, 60, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(seed, 1+rng.IntN(12))
		for range 1 + rng.IntN(5) {
			w.join()
		}
		for range 40 {
			w.run(time.Duration(rng.IntN(8000)) * time.Millisecond)
			if len(w.running) == 0 {
				w.join()
				continue
			}
			in := w.running[rng.IntN(len(w.running))]
			switch rng.IntN(5) {
			case 0:
				w.kill(in)
			case 1:
				w.stop(in)
			case 2:
				w.freeze(in, time.Duration(rng.IntN(10_000))*time.Millisecond)
			default:
				if len(w.running) < 6 {
					w.join()
				}
			}
		}
		if len(w.running) == 0 {
			w.join()
		}
		settled(t, w, fmt.Sprint("seed ", seed))
	})
}

// TestBalance_FindsAnEvenSpreadOfWhatIsShared: instances that serve different
// outboxes. No single move could make the spread more even.
func TestBalance_FindsAnEvenSpreadOfWhatIsShared(t *testing.T) {
	t.Parallel()
	seeds(t, 40, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(seed, 2+rng.IntN(10))
		w.join() // one that serves all, so that none is left out
		for range 1 + rng.IntN(4) {
			some := rng.Perm(len(w.outbox))[:1+rng.IntN(len(w.outbox))]
			w.join(some...)
		}
		w.run(3 * time.Minute)
		before := w.handOvers
		w.run(time.Minute)
		require.Equal(t, before, w.handOvers, "seed %d: it moves on: %v", seed, w.history)
		leads := w.leads()
		for o, out := range w.outbox {
			require.True(t, out.until.After(w.now), "seed %d: nobody leads %d", seed, o)
			for _, in := range w.running {
				if slices.Contains(in.serves, o) {
					require.LessOrEqual(t, leads[instanceOf(out.owner)]-leads[in.id], 1, "seed %d: outbox %d could move to %s: %v", seed, o, in.id, leads)
				}
			}
		}
	})
}

// TestBalance_GivesUpOnAnInstanceThatCannotLead: it announces itself, and takes
// nothing. Attempts to hand something over to it become ever rarer.
func TestBalance_GivesUpOnAnInstanceThatCannotLead(t *testing.T) {
	t.Parallel()
	seeds(t, 10, func(t *testing.T, seed uint64) {
		w := newWorld(seed, 6)
		w.join()
		w.run(10 * time.Second)
		w.join().lazy = true
		w.run(time.Hour)
		require.NotZero(t, w.handOvers, "seed %d", seed)
		require.Less(t, w.handOvers, 20, "seed %d: %v", seed, w.history)
		_, unled := w.spread()
		require.Zero(t, unled, "seed %d", seed)
	})
}

func TestBalance_LeavesAShortVisitAlone(t *testing.T) {
	t.Parallel()
	seeds(t, 20, func(t *testing.T, seed uint64) {
		w := newWorld(seed, 8)
		w.join()
		w.run(10 * time.Second)
		for range 20 { // it crashes in a loop
			visitor := w.join()
			w.run(w.settle - w.ttl/2)
			w.kill(visitor)
			w.run(3 * time.Second)
		}
		require.Zero(t, w.handOvers, "seed %d: %v", seed, w.history)
	})
}

// TestBalance_LeavesWhatItHandedOverForALease: also to an instance that is slow to
// look, for longer than it would defer to it.
func TestBalance_LeavesWhatItHandedOverForALease(t *testing.T) {
	t.Parallel()
	const ttl, settle = 2 * time.Second, 5 * time.Second
	now := time.Unix(1e9, 0)
	b := newBalance("a", settle, ttl, []string{"a/0", "a/1"})
	for i := range b.places {
		b.observe(i, Members{}, now)
		require.Zero(t, b.standbyWait(i, now))
		b.acquired(i, true)
	}
	slow := Members{Owner: "a/0", Left: ttl, Others: []Member{{ID: "b"}}}
	handedOver := false
	for range 20 {
		now = now.Add(b.interval())
		b.observe(0, slow, now)
		if _, handedOver = b.handOver(0, now); handedOver {
			break
		}
	}
	require.True(t, handedOver)
	require.True(t, b.ended(0, now))
	free := slow
	free.Owner, free.Left = "", 0
	b.observe(0, free, now.Add(ttl-time.Millisecond))
	require.Positive(t, b.standbyWait(0, now.Add(ttl-time.Millisecond)), "it is still left to others")
	b.observe(0, free, now.Add(2*ttl))
	require.Zero(t, b.standbyWait(0, now.Add(2*ttl)), "nobody took it")
}
