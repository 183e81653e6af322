package audit_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter/audit"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const dlt = "thing.v1.dlt"

func newLog(t *testing.T, db *harness.Database) *audit.Log {
	t.Helper()
	b, err := audit.New(db.DB)
	require.NoError(t, err)
	require.NoError(t, b.Check(t.Context()))
	return b
}

func operation(actor string) deadletter.Operation {
	return deadletter.Operation{ID: "op-" + actor, Action: deadletter.ActionSkip, Topic: dlt, Actor: actor, Note: "a\x00note", Filter: deadletter.Filter{Group: "views"}}
}

func TestLog_AdmitsOneOperationPerTopic(t *testing.T) {
	t.Parallel()
	b := newLog(t, harness.NewDatabase(t))
	first, err := b.Open(t.Context(), operation("anna"))
	require.NoError(t, err)
	_, err = b.Open(t.Context(), operation("bert"))
	require.ErrorIs(t, err, deadletter.ErrTopicBusy)
	require.ErrorContains(t, err, "skip by anna since")
	elsewhere := operation("bert")
	elsewhere.Topic = "other.dlt"
	other, err := b.Open(t.Context(), elsewhere)
	require.NoError(t, err, "other topics are free")
	require.NoError(t, other.Close(t.Context(), deadletter.Result{}, nil))

	require.NoError(t, first.Close(t.Context(), deadletter.Result{Open: 3, Skipped: 2}, errors.New("broke")))
	second, err := b.Open(t.Context(), operation("bert"))
	require.NoError(t, err)
	require.NoError(t, second.Close(t.Context(), deadletter.Result{}, nil))

	entries, err := b.List(t.Context(), dlt, 10)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, "failed", entries[1].Outcome)
	require.Equal(t, "broke", entries[1].Error)
	require.Equal(t, "a\uFFFDnote", entries[1].Note)
	require.JSONEq(t, `{"group": "views"}`, string(entries[1].Filter))
	require.JSONEq(t, `{"skipped": 2}`, string(entries[1].Counts))
	require.Equal(t, int64(3), entries[1].Open)
	require.Equal(t, int64(2), entries[1].Resolved)
	require.NotNil(t, entries[1].EndedAt)
	require.Equal(t, "done", entries[0].Outcome)
}

func TestLog_OfManyThatBeginAtOnceOneGoesOn(t *testing.T) {
	t.Parallel()
	b := newLog(t, harness.NewDatabase(t))
	results := make(chan error, 8)
	for range cap(results) {
		go func() {
			_, err := b.Open(t.Context(), operation("anna"))
			results <- err
		}()
	}
	won := 0
	for range cap(results) {
		if err := <-results; err == nil {
			won++
		} else {
			require.ErrorIs(t, err, deadletter.ErrTopicBusy)
		}
	}
	require.Equal(t, 1, won)
}

func TestLog_TakesOverFromAnOperationWhoseProcessIsGone(t *testing.T) {
	t.Parallel()
	b := audit.NewWithLease(harness.NewDatabase(t).DB, 500*time.Millisecond)
	ctx, crash := context.WithCancel(t.Context())
	gone, err := b.Open(ctx, operation("anna"))
	require.NoError(t, err)
	crash() // the lease is renewed no more
	var next deadletter.Entry
	require.Eventually(t, func() bool {
		next, err = b.Open(t.Context(), operation("bert"))
		return err == nil
	}, 2*time.Minute, 50*time.Millisecond)
	err = gone.Write(t.Context(), []deadletter.Decision{{State: deadletter.StateSkipped}}, deadletter.Result{})
	require.ErrorIs(t, err, audit.ErrAbandoned)
	decided, err := b.Decisions(t.Context(), dlt, 0, 0, 10)
	require.NoError(t, err)
	require.Empty(t, decided)
	require.NoError(t, gone.Close(t.Context(), deadletter.Result{}, err))
	require.NoError(t, next.Close(t.Context(), deadletter.Result{}, nil))
	entries, err := b.List(t.Context(), "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"done", "abandoned"}, []string{entries[0].Outcome, entries[1].Outcome})
}

func TestLog_ARunningOperationRenewsItsLease(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t)
	b := audit.NewWithLease(db.DB, 3*time.Second)
	p, err := b.Open(t.Context(), operation("anna"))
	require.NoError(t, err)
	until := func() (at time.Time) {
		require.NoError(t, db.DB.QueryRow(`SELECT alive_until FROM dead_letter_audit`).Scan(&at))
		return at
	}
	begin := until()
	require.Eventually(t, func() bool { return until().After(begin.Add(time.Second)) }, 2*time.Minute, 50*time.Millisecond)
	require.NoError(t, p.Close(t.Context(), deadletter.Result{}, nil))
}

func TestLog_StoresWhatBecameOfEachDeadLetter(t *testing.T) {
	t.Parallel()
	b := newLog(t, harness.NewDatabase(t))
	at := time.UnixMilli(1_700_000_000_123)
	p, err := b.Open(t.Context(), operation("anna"))
	require.NoError(t, err)
	require.NoError(t, p.Write(t.Context(), []deadletter.Decision{
		{Partition: 1, Offset: 7, WrittenAt: at, State: deadletter.StateSkipped, Group: "views", EventID: "e-1"},
		{Partition: 1, Offset: 9, WrittenAt: at, State: deadletter.StateParked},
		{Partition: 2, Offset: 7, WrittenAt: at, State: deadletter.StateDiscarded},
	}, deadletter.Result{Open: 3, Skipped: 1, Parked: 1, Discarded: 1}))
	require.NoError(t, p.Write(t.Context(), []deadletter.Decision{
		{Partition: 1, Offset: 9, WrittenAt: at.Add(time.Hour), State: deadletter.StateReplayed},
	}, deadletter.Result{}), "a topic of the same name came later")

	decided, err := b.Decisions(t.Context(), dlt, 1, 0, 9)
	require.NoError(t, err)
	require.Len(t, decided, 1)
	d := decided[7]
	require.True(t, at.Equal(d.WrittenAt))
	require.Equal(t, []any{deadletter.StateSkipped, "views", "e-1", "anna", "op-anna"}, []any{d.State, d.Group, d.EventID, d.Actor, d.Operation})
	require.False(t, d.At.IsZero())

	require.NoError(t, p.Forget(t.Context(), map[int32]int64{1: 9, 2: 7}))
	decided, err = b.Decisions(t.Context(), dlt, 1, 0, 100)
	require.NoError(t, err)
	require.Equal(t, deadletter.StateReplayed, decided[9].State)
	require.Len(t, decided, 1)
	decided, err = b.Decisions(t.Context(), dlt, 2, 0, 100)
	require.NoError(t, err)
	require.Len(t, decided, 1)
	require.NoError(t, p.Close(t.Context(), deadletter.Result{}, nil))
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	_, err := audit.New(nil)
	require.ErrorContains(t, err, "db: must not be nil")
	db := harness.EmptyDatabase(t)
	b, err := audit.New(db.DB)
	require.NoError(t, err)
	require.ErrorIs(t, b.Check(t.Context()), audit.ErrNoTables)
}
