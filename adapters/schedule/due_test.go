package schedule

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func minutes(ms ...int) (times []time.Time) {
	for _, m := range ms {
		times = append(times, noon.Add(time.Duration(m)*time.Minute))
	}
	return times
}

func TestDue_DecidesByThePolicy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy       MissedPolicy
		settled, now time.Duration // after noon
		slots        []time.Time
		next         int
	}{
		"nothing yet":                      {MissedRunOnce, 0, 59 * time.Second, nil, 1},
		"on time":                          {MissedRunOnce, 0, time.Minute, minutes(1), 2},
		"a little late":                    {MissedRunOnce, 0, 62 * time.Second, minutes(1), 2},
		"the latest of those missed":       {MissedRunOnce, 0, 5*time.Minute + 30*time.Second, minutes(5), 6},
		"the latest in the grace":          {MissedRunOnce, 0, 100 * time.Minute, minutes(100), 101},
		"skip: on time":                    {MissedSkip, 0, time.Minute, minutes(1), 2},
		"skip: in a few seconds":           {MissedSkip, 0, time.Minute + 5*time.Second, minutes(1), 2},
		"skip: later":                      {MissedSkip, 0, time.Minute + 6*time.Second, nil, 2},
		"all of those missed":              {MissedRunAll, 0, 3*time.Minute + time.Second, minutes(1, 2, 3), 4},
		"all in the grace":                 {MissedRunAll, 0, 22 * time.Minute, minutes(12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22), 23},
		"nothing between settled and now":  {MissedRunAll, 3 * time.Minute, 3*time.Minute + time.Second, nil, 4},
		"the clock is behind what is done": {MissedRunAll, 3 * time.Minute, 2 * time.Minute, nil, 4},
	} {
		got := due(every(time.Minute), c.policy, 10*time.Minute, noon.Add(c.settled), noon.Add(c.now))
		require.Equal(t, c.slots, got.slots, name)
		require.Equal(t, minutes(c.next)[0], got.next, name)
	}
}

type never struct{}

func (never) Next(time.Time) time.Time { return time.Time{} }

func TestDue_OfATimetableThatEnds(t *testing.T) {
	t.Parallel()
	require.Empty(t, due(never{}, MissedRunOnce, time.Minute, noon, noon.Add(time.Hour)).slots)
	require.True(t, due(never{}, MissedRunOnce, time.Minute, noon, noon).next.IsZero())
}

// A node that looks at any times, in order, runs each slot of the grace once with
// MissedRunAll, and never one twice with any policy.
func TestDue_NoSlotTwiceAndNoneForgotten(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		for _, p := range []MissedPolicy{MissedRunAll, MissedRunOnce, MissedSkip} {
			settled, now, ran := noon, noon, map[time.Time]int{}
			for range 100 {
				now = now.Add(time.Duration(random.Int64N(int64(9 * time.Minute))))
				d := due(every(time.Minute), p, 10*time.Minute, settled, now)
				settled = d.done
				for _, s := range d.slots {
					require.False(t, s.After(now))
					require.True(t, s.After(settled))
					ran[s]++
					settled = s
				}
				require.True(t, d.next.After(now))
			}
			for s, n := range ran {
				require.Equal(t, 1, n, "%s %s", p, s)
			}
			if p == MissedRunAll {
				require.Len(t, ran, int(settled.Sub(noon)/time.Minute))
			}
		}
	}
}
