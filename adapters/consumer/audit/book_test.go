package audit_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/audit"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const dlt = "thing.v1.dlt"

func newBook(t *testing.T, db *harness.Database, cfg audit.Config) *audit.Book {
	t.Helper()
	b, err := audit.New(db.DB, cfg)
	require.NoError(t, err)
	require.NoError(t, b.Check(t.Context()))
	return b
}

func act(actor string) consumer.Act {
	return consumer.Act{ID: "act-" + actor, Action: consumer.ActionSkip, Topic: dlt, Actor: actor, Note: "a\x00note", Filter: consumer.Filter{Group: "views"}}
}

func TestBook_KeepsTwoActsOnOneTopicApart(t *testing.T) {
	t.Parallel()
	b := newBook(t, harness.NewDatabase(t), audit.Config{})
	first, err := b.Open(t.Context(), act("anna"))
	require.NoError(t, err)
	_, err = b.Open(t.Context(), act("bert"))
	require.ErrorIs(t, err, consumer.ErrTopicBusy)
	require.ErrorContains(t, err, "skip by anna since")
	elsewhere := act("bert")
	elsewhere.Topic = "other.dlt"
	other, err := b.Open(t.Context(), elsewhere)
	require.NoError(t, err, "other topics are free")
	require.NoError(t, other.Close(t.Context(), consumer.ReplayResult{}, nil))

	require.NoError(t, first.Close(t.Context(), consumer.ReplayResult{Letters: 3, Skipped: 2}, errors.New("broke")))
	second, err := b.Open(t.Context(), act("bert"))
	require.NoError(t, err)
	require.NoError(t, second.Close(t.Context(), consumer.ReplayResult{}, nil))

	acts, err := b.List(t.Context(), dlt, 10)
	require.NoError(t, err)
	require.Len(t, acts, 2)
	require.Equal(t, "failed", acts[1].Outcome)
	require.Equal(t, "broke", acts[1].Error)
	require.Equal(t, "a\uFFFDnote", acts[1].Note)
	require.JSONEq(t, `{"group": "views"}`, string(acts[1].Filter))
	require.JSONEq(t, `{"skipped": 2}`, string(acts[1].Counts))
	require.Equal(t, int64(3), acts[1].Letters)
	require.Equal(t, int64(2), acts[1].Done)
	require.NotNil(t, acts[1].EndedAt)
	require.Equal(t, "done", acts[0].Outcome)
}

func TestBook_OfManyThatBeginAtOnceOneGoesOn(t *testing.T) {
	t.Parallel()
	b := newBook(t, harness.NewDatabase(t), audit.Config{})
	results := make(chan error, 8)
	for range cap(results) {
		go func() {
			_, err := b.Open(t.Context(), act("anna"))
			results <- err
		}()
	}
	won := 0
	for range cap(results) {
		if err := <-results; err == nil {
			won++
		} else {
			require.ErrorIs(t, err, consumer.ErrTopicBusy)
		}
	}
	require.Equal(t, 1, won)
}

func TestBook_TakesOverFromAnActThatIsGone(t *testing.T) {
	t.Parallel()
	b := newBook(t, harness.NewDatabase(t), audit.Config{Alive: 500 * time.Millisecond})
	ctx, crash := context.WithCancel(t.Context())
	gone, err := b.Open(ctx, act("anna"))
	require.NoError(t, err)
	crash() // no more signs of life
	var next consumer.Page
	require.Eventually(t, func() bool {
		next, err = b.Open(t.Context(), act("bert"))
		return err == nil
	}, 2*time.Minute, 50*time.Millisecond)
	err = gone.Write(t.Context(), []consumer.Decision{{State: consumer.StateSkipped}}, consumer.ReplayResult{})
	require.ErrorIs(t, err, audit.ErrAbandoned)
	decided, err := b.Decisions(t.Context(), dlt, 0, 0, 10)
	require.NoError(t, err)
	require.Empty(t, decided)
	require.NoError(t, gone.Close(t.Context(), consumer.ReplayResult{}, err))
	require.NoError(t, next.Close(t.Context(), consumer.ReplayResult{}, nil))
	acts, err := b.List(t.Context(), "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"done", "abandoned"}, []string{acts[0].Outcome, acts[1].Outcome})
}

func TestBook_AnActUnderWayShowsSignsOfLife(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	b := newBook(t, db, audit.Config{Alive: 3 * time.Second})
	p, err := b.Open(t.Context(), act("anna"))
	require.NoError(t, err)
	until := func() (at time.Time) {
		require.NoError(t, db.DB.QueryRow(`SELECT alive_until FROM dead_letter_audit`).Scan(&at))
		return at
	}
	begin := until()
	require.Eventually(t, func() bool { return until().After(begin.Add(time.Second)) }, 2*time.Minute, 50*time.Millisecond)
	require.NoError(t, p.Close(t.Context(), consumer.ReplayResult{}, nil))
}

func TestBook_RemembersWhatBecameOfEachLetter(t *testing.T) {
	t.Parallel()
	b := newBook(t, harness.NewDatabase(t), audit.Config{})
	at := time.UnixMilli(1_700_000_000_123)
	p, err := b.Open(t.Context(), act("anna"))
	require.NoError(t, err)
	require.NoError(t, p.Write(t.Context(), []consumer.Decision{
		{Partition: 1, Offset: 7, WrittenAt: at, State: consumer.StateSkipped, Group: "views", EventID: "e-1"},
		{Partition: 1, Offset: 9, WrittenAt: at, State: consumer.StateParked},
		{Partition: 2, Offset: 7, WrittenAt: at, State: consumer.StateDiscarded},
	}, consumer.ReplayResult{Letters: 3, Skipped: 1, Parked: 1, Discarded: 1}))
	require.NoError(t, p.Write(t.Context(), []consumer.Decision{
		{Partition: 1, Offset: 9, WrittenAt: at.Add(time.Hour), State: consumer.StateReplayed},
	}, consumer.ReplayResult{}), "a topic of the same name came later")

	decided, err := b.Decisions(t.Context(), dlt, 1, 0, 9)
	require.NoError(t, err)
	require.Len(t, decided, 1)
	d := decided[7]
	require.True(t, at.Equal(d.WrittenAt))
	require.Equal(t, []any{consumer.StateSkipped, "views", "e-1", "anna", "act-anna"}, []any{d.State, d.Group, d.EventID, d.Actor, d.Act})
	require.False(t, d.At.IsZero())

	require.NoError(t, p.Forget(t.Context(), map[int32]int64{1: 9, 2: 7}))
	decided, err = b.Decisions(t.Context(), dlt, 1, 0, 100)
	require.NoError(t, err)
	require.Equal(t, consumer.StateReplayed, decided[9].State)
	require.Len(t, decided, 1)
	decided, err = b.Decisions(t.Context(), dlt, 2, 0, 100)
	require.NoError(t, err)
	require.Len(t, decided, 1)
	require.NoError(t, p.Close(t.Context(), consumer.ReplayResult{}, nil))
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	_, err := audit.New(nil, audit.Config{})
	require.ErrorContains(t, err, "database is missing")
	db := harness.EmptyDatabase(t)
	_, err = audit.New(db.DB, audit.Config{Alive: -1})
	require.ErrorContains(t, err, "alive must not be negative")
	b, err := audit.New(db.DB, audit.Config{})
	require.NoError(t, err)
	require.ErrorIs(t, b.Check(t.Context()), audit.ErrNoTables)
}
