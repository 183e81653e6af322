package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
)

func TestBatch_CommitsManyEffectsAtOnceAndOnlyNewOnes(t *testing.T) {
	t.Parallel()
	s, told := newStore(t), new(commits)
	handle := newInbox(t, s.db, inbox.Config{Hooks: told.hooks()}).Batch(effect)
	a, b, c := newEvent("k1", 1, "a"), newEvent("k2", 2, "b"), newEvent("k1", 3, "c")
	require.NoError(t, handle(batchOf(t.Context(), a)))
	again := c
	again.offset = 4
	require.NoError(t, handle(batchOf(t.Context(), a, b, c, again)))
	require.Equal(t, []string{"a", "b", "c"}, s.effects())
	last := told.last(t)
	require.Equal(t, []int{2, 2, 0, 1}, []int{last.Applied, last.Duplicates, last.Failed, last.Attempts})
	require.NoError(t, handle(batchOf(t.Context(), c, b, a)))
	require.Equal(t, 3, told.last(t).Duplicates)
	require.Len(t, s.effects(), 3)
	require.Equal(t, 3, s.count(`SELECT count(*) FROM consumer_inbox WHERE source_partition = 1 AND source_offset IN (1, 2, 3)`))
	require.Equal(t, 2, s.count(`SELECT count(DISTINCT xmin::text) FROM effect`), "one transaction a batch")
}

func TestBatch_LeavesFailedMessagesOutWithThoseOfTheirKeyBehindThem(t *testing.T) {
	t.Parallel()
	s, told := newStore(t), new(commits)
	handle := newInbox(t, s.db, inbox.Config{Hooks: told.hooks()}).Batch(effect)
	var events []event
	for i := range 100 {
		e := newEvent(fmt.Sprintf("k%d", i%10), int64(i), fmt.Sprint(i))
		if i == 23 || i == 57 || i == 58 {
			e.payload += " poison"
		}
		events = append(events, e)
	}
	for round := range 2 { // careless, then with savepoints from the start
		var left *consumer.BatchError
		require.ErrorAs(t, handle(batchOf(t.Context(), events...)), &left)
		var want []string
		for i, e := range events {
			behind := i%10 == 3 && i > 23 || i%10 == 7 && i > 57 || i%10 == 8 && i > 58
			why, out := left.Failed[i]
			require.Equal(t, behind || i == 23 || i == 57 || i == 58, out, "message %d", i)
			switch {
			case out && !behind:
				require.ErrorIs(t, why, errPoison)
			case out:
				require.NoError(t, why, "it was not tried")
			default:
				want = append(want, e.payload)
			}
		}
		require.Equal(t, want, s.effects(), "in order")
		require.Equal(t, len(want), s.count(`SELECT count(*) FROM consumer_inbox`))
		require.Equal(t, len(left.Failed), told.last(t).Failed)
		if round == 0 {
			s.exec(`TRUNCATE consumer_inbox, effect`)
		}
	}
}

func TestBatch_UndecodableMessagesDisturbNobody(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	type order struct{ ID string }
	tries := 0
	handle := newInbox(t, s.db, inbox.Config{}).Batch(inbox.Typed(consumer.JSON[order], func(ctx context.Context, tx *sql.Tx, o order) error {
		tries++
		_, err := tx.ExecContext(ctx, `INSERT INTO effect (consumer, event, key) VALUES ('', $1, '')`, o.ID)
		return err
	}))
	var left *consumer.BatchError
	require.ErrorAs(t, handle(batchOf(t.Context(),
		newEvent("k1", 1, `{"ID":"1"}`), newEvent("k2", 2, `{broken`), newEvent("k2", 3, `{"ID":"3"}`), newEvent("k3", 4, `{"ID":"4"}`))), &left)
	require.Len(t, left.Failed, 2)
	require.ErrorIs(t, left.Failed[1], consumer.ErrDecode)
	require.Equal(t, []string{"1", "4"}, s.effects())
	require.Equal(t, 2, tries, "no effect was made twice for it")
	require.Equal(t, 2, s.count(`SELECT count(*) FROM consumer_inbox`))
}

func TestBatch_PanicsAndSQLErrorsAreTheMessagesOwn(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	handle := newInbox(t, s.db, inbox.Config{}).Batch(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		switch string(msg.Payload) {
		case "panic":
			panic("boom")
		case "sql":
			_, err := tx.ExecContext(ctx, `SELECT 1/0`)
			return err
		}
		return effect(ctx, tx, msg)
	})
	var left *consumer.BatchError
	require.ErrorAs(t, handle(batchOf(t.Context(), newEvent("k1", 1, "a"), newEvent("k2", 2, "panic"), newEvent("k3", 3, "sql"), newEvent("k4", 4, "b"))), &left)
	require.Len(t, left.Failed, 2)
	var p *consumer.PanicError
	require.ErrorAs(t, left.Failed[1], &p)
	require.ErrorContains(t, left.Failed[2], "division by zero")
	require.Equal(t, []string{"a", "b"}, s.effects())
}

func TestBatch_WhatNobodyIsToBlameForBreaksTheBatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.exec(`CREATE TABLE unique_at_commit (v text UNIQUE DEFERRABLE INITIALLY DEFERRED)`)
	handle := newInbox(t, s.db, inbox.Config{}).Batch(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO unique_at_commit VALUES ($1)`, string(msg.Payload))
		return err
	})
	err := handle(batchOf(t.Context(), newEvent("k1", 1, "same"), newEvent("k2", 2, "same")))
	require.ErrorContains(t, err, "unique_at_commit")
	var left *consumer.BatchError
	require.NotErrorAs(t, err, &left)
	require.Zero(t, s.count(`SELECT count(*) FROM consumer_inbox`))
}

func TestBatch_AllFailedCommitsNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	handle := newInbox(t, s.db, inbox.Config{}).Batch(effect)
	var left *consumer.BatchError
	require.ErrorAs(t, handle(batchOf(t.Context(), newEvent("k1", 1, "poison"), newEvent("k1", 2, "behind"))), &left)
	require.Len(t, left.Failed, 2)
	require.Empty(t, s.effects())
	require.Zero(t, s.count(`SELECT count(*) FROM consumer_inbox`))
}

// writeAll is effect for many messages in one statement.
func writeAll(ctx context.Context, tx *sql.Tx, msgs []*message.Message) error {
	var events, keys []string
	for _, m := range msgs {
		key, _ := records.Key(m)
		events, keys = append(events, string(m.Payload)), append(keys, key)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO effect (consumer, event, key) SELECT '', e, k FROM unnest($1::text[], $2::text[]) AS m(e, k)`, pq.Array(events), pq.Array(keys))
	for _, e := range events {
		if strings.Contains(e, "poison") {
			return errPoison
		}
	}
	return err
}

func TestBulk_NarrowsAFailureDownToItsMessages(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string][]int{"none": nil, "one": {33}, "some": {0, 41, 42, 99}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			calls := 0
			handle := newInbox(t, s.db, inbox.Config{}).Bulk(func(ctx context.Context, tx *sql.Tx, msgs []*message.Message) error {
				calls++
				return writeAll(ctx, tx, msgs)
			})
			var events []event
			for i := range 100 {
				e := newEvent(fmt.Sprintf("k%d", i%50), int64(i), fmt.Sprint(i))
				if slices.Contains(bad, i) {
					e.payload += " poison"
				}
				events = append(events, e)
			}
			err := handle(batchOf(t.Context(), events...))
			var left consumer.BatchError
			if partly, ok := errors.AsType[*consumer.BatchError](err); ok {
				left = *partly
			} else {
				require.NoError(t, err)
			}
			var want []string
			for i, e := range events {
				behind := i >= 50 && slices.Contains(bad, i-50)
				why, out := left.Failed[i]
				require.Equal(t, behind || slices.Contains(bad, i), out, "message %d", i)
				if !out {
					want = append(want, e.payload)
				} else if !behind {
					require.ErrorIs(t, why, errPoison)
				}
			}
			require.Equal(t, want, s.effects(), "in order")
			require.Equal(t, len(want), s.count(`SELECT count(*) FROM consumer_inbox`))
			require.NoError(t, ignoreLeft(handle(batchOf(t.Context(), events...))))
			require.Equal(t, want, s.effects(), "once")
			if bad == nil {
				require.Equal(t, 1, calls, "one call for all, none for what is done")
			}
		})
	}
}

// ignoreLeft drops the error that names messages.
func ignoreLeft(err error) error {
	if _, ok := errors.AsType[*consumer.BatchError](err); ok {
		return nil
	}
	return err
}

func TestBulk_PanicsBecomeErrorsOfTheMessage(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	handle := newInbox(t, s.db, inbox.Config{}).Bulk(func(ctx context.Context, tx *sql.Tx, msgs []*message.Message) error {
		if err := writeAll(ctx, tx, msgs); err != nil {
			panic(err)
		}
		return nil
	})
	var left *consumer.BatchError
	require.ErrorAs(t, handle(batchOf(t.Context(), newEvent("k1", 1, "a"), newEvent("k2", 2, "poison"))), &left)
	var p *consumer.PanicError
	require.ErrorAs(t, left.Failed[1], &p)
	require.Len(t, left.Failed, 1)
	require.Equal(t, []string{"a"}, s.effects())
}
