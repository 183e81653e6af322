package pgstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// errBroken is what errors.Is finds in every violation that a verdict reports.
var errBroken = errors.New("the log was not read right")

// event is what writers commit and readers deliver. The versions of a key start
// at 1 and rise by 1 in commit order.
type event struct {
	id      uuid.UUID
	key     string
	version int64
}

// verdict compares what was delivered with what was committed. A loss or an
// inversion shows at once as a jump of the key's version.
type verdict struct {
	last      map[string]int64
	delivered map[uuid.UUID]event
}

func newVerdict() *verdict {
	return &verdict{last: map[string]int64{}, delivered: map[uuid.UUID]event{}}
}

func (v *verdict) deliver(e event) error {
	if _, twice := v.delivered[e.id]; twice {
		return fmt.Errorf("%w: %s version %d was delivered twice", errBroken, e.key, e.version)
	}
	v.delivered[e.id] = e
	if last := v.last[e.key]; e.version != last+1 {
		return fmt.Errorf("%w: %s version %d was delivered after version %d: lost or out of order", errBroken, e.key, e.version, last)
	}
	v.last[e.key] = e.version
	return nil
}

// finish compares with everything that was committed.
func (v *verdict) finish(committed []event) error {
	lost := 0
	for _, e := range committed {
		if v.delivered[e.id] != e {
			lost++
		}
	}
	if lost > 0 || len(committed) != len(v.delivered) {
		return fmt.Errorf("%w: %d committed, %d delivered, %d lost", errBroken, len(committed), len(v.delivered), lost)
	}
	return nil
}

// newSeed returns the seed of MILLRACE_SEED, or a fresh one, and logs it.
func newSeed(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MILLRACE_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "MILLRACE_SEED")
	}
	t.Logf("to run with the same choices: MILLRACE_SEED=%d", seed)
	return seed
}

func newRand(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// chance is true p times of 100.
func chance(rng *rand.Rand, p int) bool { return rng.IntN(100) < p }

func TestVerdict_SeesEachViolation(t *testing.T) {
	t.Parallel()
	one, two, three := event{uuid.New(), "k", 1}, event{uuid.New(), "k", 2}, event{uuid.New(), "k", 3}
	for name, tc := range map[string]struct {
		delivered, committed []event
		right                bool
	}{
		"all in order":       {[]event{one, two, three}, []event{one, two, three}, true},
		"one lost in middle": {[]event{one, three}, []event{one, two, three}, false},
		"last lost":          {[]event{one, two}, []event{one, two, three}, false},
		"twice":              {[]event{one, one}, []event{one}, false},
		"out of order":       {[]event{two, one}, []event{one, two}, false},
		"never committed":    {[]event{one, two}, []event{one}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVerdict()
			var err error
			for _, e := range tc.delivered {
				err = errors.Join(err, v.deliver(e))
			}
			err = errors.Join(err, v.finish(tc.committed))
			if tc.right {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, errBroken)
			}
		})
	}
}
