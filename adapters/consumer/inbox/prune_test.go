package inbox_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer/inbox"
)

// age makes every row of the inbox that much older.
func (s *store) age(by time.Duration) {
	s.exec(`UPDATE consumer_inbox SET applied_at = applied_at - $1 * interval '1 microsecond'`, by.Microseconds())
}

const month = 31 * 24 * time.Hour

// longAgo is an event of a time that every retention has passed.
func longAgo(key string, offset, version int64, payload string) event {
	e := newEvent(key, offset, payload)
	e.at, e.version = time.Now().Add(-2*month), version
	return e
}

func TestPrune_ReplayingEverythingAfterwardsAppliesNothingTwiceAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	i := newInbox(t, s.db, inbox.Config{})
	handle := i.Batch(effect)
	const keys, versions = 20, 60
	var applied, missed []event
	offset := int64(0)
	for v := range int64(versions) {
		for k := range keys {
			e := longAgo(fmt.Sprintf("k%d", k), offset, v+1, fmt.Sprintf("k%d v%d", k, v+1))
			offset++
			if (int(v)+k)%17 == 3 { // it became a dead letter
				missed = append(missed, e)
			} else {
				applied = append(applied, e)
			}
		}
	}
	for at := 0; at < len(applied); at += 100 {
		require.NoError(t, handle(batchOf(t.Context(), applied[at:min(at+100, len(applied))]...)))
	}
	before := s.effects()
	require.Len(t, before, len(applied))
	s.age(month)
	n, err := i.Prune(t.Context())
	require.NoError(t, err)
	require.Equal(t, len(applied), n)
	require.Zero(t, s.count(`SELECT count(*) FROM consumer_inbox`))

	replay := func(of []event, change func(*event)) {
		for _, e := range of {
			change(&e)
			require.NoError(t, handle(batchOf(t.Context(), e)))
		}
	}
	unversioned := func(e *event) { e.version, e.id = 0, uuid.NewString() }
	replay(applied, func(e *event) { unversioned(e) })                                     // offsets set back
	replay(applied, func(e *event) { e.offset += 1_000_000 })                              // the log's history replayed
	replay(applied, func(e *event) { e.headers = cameFrom(1, e.offset); e.offset += 1e6 }) // dead letters replayed
	require.Equal(t, before, s.effects(), "nothing was applied twice")

	replay(missed, func(e *event) { e.headers = cameFrom(1, e.offset); e.offset += 1e6 })
	require.Len(t, s.effects(), len(applied)+len(missed), "what was never applied is not taken for applied")
	replay(missed, func(e *event) {})
	require.Len(t, s.effects(), len(applied)+len(missed))
	s.age(month)
	_, err = i.Prune(t.Context())
	require.NoError(t, err)
	replay(append(applied, missed...), func(e *event) { e.id = uuid.NewString() })
	require.Len(t, s.effects(), len(applied)+len(missed))
	require.Equal(t, 1, s.count(`SELECT count(*) FROM consumer_inbox_offsets WHERE first = 0 AND next = $1`, offset), "the holes are filled, one range is left")
	require.Equal(t, keys, s.count(`SELECT count(*) FROM consumer_inbox_versions WHERE first = 1 AND next = $1`, versions+1))
}

func TestPrune_KeepsWhatIsYoungerThanTheRetentionAndOtherGroups(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	mine, other := newInbox(t, s.db, inbox.Config{Retention: inbox.MinRetention}), newInboxOf(t, s.db, "billing", inbox.Config{})
	old, young := longAgo("k1", 1, 1, "old"), longAgo("k1", 2, 2, "young")
	require.NoError(t, mine.Handler(effect)(old.deliver(t.Context())))
	require.NoError(t, other.Handler(effect)(old.deliver(t.Context())))
	s.age(inbox.MinRetention + time.Minute)
	require.NoError(t, mine.Handler(effect)(young.deliver(t.Context())))
	n, err := mine.Prune(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, 2, s.count(`SELECT count(*) FROM consumer_inbox`))
	n, err = mine.Prune(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestPrune_TellsItsResultAndGoesOnAfterErrors(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.exec(`ALTER TABLE consumer_inbox_offsets RENAME TO away`)
	var failed, pruned atomic.Int64
	i := newInbox(t, s.db, inbox.Config{PruneEvery: 5 * time.Millisecond, Hooks: inbox.Hooks{Pruned: func(rows int, err error) {
		if err != nil && failed.Add(1) == 1 {
			s.exec(`ALTER TABLE away RENAME TO consumer_inbox_offsets`)
		}
		pruned.Add(int64(rows))
	}}})
	e := newEvent("k1", 1, "a") // young: its offset is not looked for
	require.NoError(t, i.Handler(effect)(e.deliver(t.Context())))
	s.age(month)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	require.Eventually(t, func() bool { return pruned.Load() == 1 }, liveness, time.Millisecond)
	require.Positive(t, failed.Load())
	cancel()
	require.NoError(t, <-done)
}

func TestPrune_DoesNotWaitForConsumersNorTheyForIt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	i := newInbox(t, s.db, inbox.Config{})
	require.NoError(t, i.Handler(effect)(longAgo("k1", 1, 1, "old").deliver(t.Context())))
	s.age(month)
	g := newGate()
	done := make(chan error, 1)
	go func() { done <- i.Handler(g.effect(nil))(longAgo("k1", 2, 2, "at work").deliver(t.Context())) }()
	<-g.entered
	n, err := i.Prune(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, i.Handler(effect)(longAgo("k1", 1, 1, "old").deliver(t.Context())))
	close(g.release)
	require.NoError(t, <-done)
	require.Equal(t, []string{"old", "at work"}, s.effects())
}
