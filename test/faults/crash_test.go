package faults

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A consumer is killed after it committed effects and before it committed their
// offsets: the events are delivered again, the effects are not made again.
func TestCrash_BetweenEffectAndOffsetCommitRepeatsNoEffect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.produce(900, keysOf(30)...)
	spec := memberSpec{Inbox: true}
	repeated := 0
	for range 3 {
		m := w.crash(spec, 150)
		repeated += strings.Count(m.Stdout(), "done before")
	}
	m := w.member(spec)
	w.awaitEffects()
	require.Zero(t, m.Terminate(liveness))
	repeated += strings.Count(m.Stdout(), "done before")
	t.Logf("%d events were delivered again", repeated)
	require.Positive(t, repeated, "or nothing was tried")
	w.requireOnceInOrder()
	require.Empty(t, w.deadLetters())
}

// Handlers of one partition finish in any order, and the process is killed: what
// was finished above something unfinished must not have been committed.
func TestCrash_OfWorkersThatFinishOutOfOrderLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.produce(1200, keysOf(60)...)
	spec := memberSpec{Work: 30 * time.Millisecond}
	for range 3 {
		w.crash(spec, 200)
		w.requireCommitsBelowUnfinished()
	}
	m := w.member(spec)
	w.awaitEffects()
	require.Zero(t, m.Terminate(liveness))
	for key, numbers := range w.effects() {
		highest := -1
		for _, n := range numbers {
			require.LessOrEqual(t, n, highest+1, "%s: an event overtook another", key)
			highest = max(highest, n)
		}
	}
}

// requireCommitsBelowUnfinished fails if a committed offset has passed an event
// without an effect.
func (w *world) requireCommitsBelowUnfinished() {
	w.t.Helper()
	done := map[string]map[int]bool{}
	for key, numbers := range w.effects() {
		done[key] = map[int]bool{}
		for _, n := range numbers {
			done[key][n] = true
		}
	}
	committed := w.committed()
	for _, rec := range w.records() {
		if !done[rec.key][rec.n] {
			require.LessOrEqual(w.t, committed[rec.partition], rec.offset, "%s %d was passed by", rec.key, rec.n)
		}
	}
}
