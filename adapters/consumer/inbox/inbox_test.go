package inbox_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/outbox/record"
)

func TestNew_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := inbox.New(nil, "", inbox.Config{Retries: -2, RetryWait: -1, IdleTimeout: -2, Retention: time.Hour, PruneEvery: -1})
	for _, want := range []string{"db: must not be nil", "group: must be set", "Retries:", "RetryWait:", "IdleTimeout:", "Retention: must be at least 24h0m0s", "PruneEvery:"} {
		require.ErrorContains(t, err, want)
	}
}

func TestHandlers_WithoutAnEffectAreRefusedByARouterAndFailOnOthers(t *testing.T) {
	t.Parallel()
	i, err := inbox.New(new(sql.DB), group, inbox.Config{})
	require.NoError(t, err)
	none := inbox.Typed[string](nil, nil)
	r, err := consumer.New(struct{ message.Publisher }{}, consumer.Config{})
	require.NoError(t, err)
	r.Handle("one", "a", struct{ message.Subscriber }{}, i.Handler(none))
	r.HandleBatch("many", "a", struct{ consumer.BatchSubscriber }{}, i.Batch(none))
	r.HandleBatch("bulk", "a", struct{ consumer.BatchSubscriber }{}, i.Bulk(nil))
	err = r.Validate()
	for _, name := range []string{"one", "many", "bulk"} {
		require.ErrorContains(t, err, `handler "`+name+`": handler function: must not be nil`)
	}
	require.ErrorContains(t, i.Handler(none)(message.NewMessage("1", nil)), "function is nil")
	require.ErrorContains(t, i.Batch(none)(nil), "function is nil")
}

func TestHandler_MakesAnEffectOnceForAnyNumberOfDeliveries(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]bool{"prepared": true, "plain": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, told := newStore(t), new(commits)
			woken := 0
			i := newInbox(t, s.db, inbox.Config{Hooks: told.hooks(), Committed: func() { woken++ }})
			if prepare {
				require.NoError(t, i.Prepare(t.Context()))
			}
			handle := i.Handler(effect)
			e := newEvent("k1", 7, "a")
			for range 3 {
				require.NoError(t, handle(e.deliver(t.Context())))
			}
			e.offset = 99 // the relay has sent it again
			require.NoError(t, handle(e.deliver(t.Context())))
			require.Equal(t, []string{"a"}, s.effects())
			require.Len(t, told.all, 4)
			require.Equal(t, 1, told.all[0].Applied)
			require.Positive(t, told.all[0].CommitTook)
			require.GreaterOrEqual(t, told.all[0].Took, told.all[0].CommitTook)
			last := told.last(t)
			last.Took, last.CommitTook = 0, 0
			require.Equal(t, inbox.Commit{Topic: topic, Group: group, Duplicates: 1, Attempts: 1}, last)
			require.Equal(t, 1, woken)
			require.NoError(t, i.Close())
			require.NoError(t, handle(e.deliver(t.Context())), "it goes on without what was prepared")
		})
	}
}

func TestHandler_AFailedEffectLeavesNothingAndMayBeTriedAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	i := newInbox(t, s.db, inbox.Config{})
	fail := true
	handle := i.Handler(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		if err := effect(ctx, tx, msg); err != nil || !fail {
			return err
		}
		return errPoison
	})
	e := newEvent("k1", 7, "a")
	require.ErrorIs(t, handle(e.deliver(t.Context())), errPoison)
	require.Empty(t, s.effects())
	require.Zero(t, s.count(`SELECT count(*) FROM consumer_inbox`))
	fail = false
	require.NoError(t, handle(e.deliver(t.Context())))
	require.Equal(t, []string{"a"}, s.effects())
}

func TestHandler_APanicRollsBackAndIsAnError(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	handle := newInbox(t, s.db, inbox.Config{}).Handler(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		_ = effect(ctx, tx, msg)
		panic("boom")
	})
	var p *consumer.PanicError
	require.ErrorAs(t, handle(newEvent("k1", 7, "a").deliver(t.Context())), &p)
	require.Contains(t, string(p.Stack), "inbox_test.go")
	require.Empty(t, s.effects())
	require.Eventually(t, func() bool { return s.db.Stats().InUse == 0 }, liveness, time.Millisecond)
}

func TestHandler_AnEffectThatGoesOnAfterAnErrorIsRefused(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	handle := newInbox(t, s.db, inbox.Config{}).Handler(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		_, _ = tx.ExecContext(ctx, `SELECT 1/0`)
		return nil
	})
	require.ErrorContains(t, handle(newEvent("k1", 7, "a").deliver(t.Context())), "failed transaction")
	require.Zero(t, s.count(`SELECT count(*) FROM consumer_inbox`))
}

func TestHandler_GroupsAndTopicsAreIndependent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := newEvent("k1", 7, "a")
	for _, g := range []string{"shipping", "billing"} {
		handle := newInboxOf(t, s.db, g, inbox.Config{}).Handler(effect)
		require.NoError(t, handle(e.deliver(t.Context())))
		elsewhere := e.deliver(t.Context())
		rec, _ := record.From(elsewhere.Context())
		rec.Topic = "other.v1"
		require.NoError(t, handle(elsewhere))
	}
	require.Len(t, s.effects(), 4)
	require.Equal(t, 4, s.count(`SELECT count(*) FROM consumer_inbox_source`))
}

func TestHandler_KnowsRecordsWithoutAnIDByTheirPlace(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	handle := newInbox(t, s.db, inbox.Config{}).Handler(effect)
	e := event{key: "k1", payload: "a", offset: 7}
	require.NoError(t, handle(e.deliver(t.Context())))
	require.NoError(t, handle(e.deliver(t.Context())))
	require.Equal(t, []string{"a"}, s.effects())

	replayed := event{key: "k1", payload: "a", offset: 1000, headers: cameFrom(1, 7)}
	require.NoError(t, handle(replayed.deliver(t.Context())))
	require.Equal(t, []string{"a"}, s.effects(), "the replay of a dead letter tells its first place")

	for _, forged := range [][]record.Header{cameFrom(2, 7), cameFrom(1, 5000)} {
		e := event{key: "k1", payload: "b", offset: 1001, headers: forged}
		require.NoError(t, handle(e.deliver(t.Context())))
	}
	require.Equal(t, []string{"a", "b"}, s.effects(), "a place elsewhere, or in the future, is not believed")
}

func TestHandler_TakesIDsThatAreNoUUIDs(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	handle := newInbox(t, s.db, inbox.Config{}).Handler(effect)
	for _, id := range []string{"order-1\x00", "order-2", "order-2", "order-1\x00"} {
		e := newEvent("k1", 7, id[:7])
		e.id = id
		require.NoError(t, handle(e.deliver(t.Context())))
	}
	require.Equal(t, []string{"order-1", "order-2"}, s.effects())
}

// cameFrom are the headers of a replayed dead letter.
func cameFrom(partition int32, offset int64) []record.Header {
	return []record.Header{
		{Key: deadletter.HeaderOriginalTopic, Value: []byte(topic)},
		{Key: deadletter.HeaderOriginalPartition, Value: binary.BigEndian.AppendUint32(nil, uint32(partition))},
		{Key: deadletter.HeaderOriginalOffset, Value: binary.BigEndian.AppendUint64(nil, uint64(offset))},
	}
}

func TestHandler_WorksWithAPoolOfOneConnection(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.db.SetMaxOpenConns(1)
	i := newInbox(t, s.db, inbox.Config{})
	require.NoError(t, i.Prepare(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), liveness)
	defer cancel()
	require.NoError(t, i.Handler(effect)(newEvent("k1", 7, "a").deliver(ctx)))
	require.NoError(t, i.Batch(effect)(batchOf(ctx, newEvent("k1", 8, "b"), newEvent("k2", 9, "c"))))
	_, err := i.Prune(ctx)
	require.NoError(t, err)
	require.Len(t, s.effects(), 3)
}

func TestHandler_AnEndedContextIsNoFailure(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	handle := newInbox(t, s.db, inbox.Config{}).Handler(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		cancel()
		return effect(ctx, tx, msg)
	})
	require.ErrorIs(t, handle(newEvent("k1", 7, "a").deliver(ctx)), context.Canceled)
	require.Empty(t, s.effects())
}

func TestHandler_FollowUpsInTheOutboxAppearOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	store, err := pgstore.New(s.db, pgstore.Config{})
	require.NoError(t, err)
	woken := 0
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{Wake: func() { woken++ }})
	require.NoError(t, err)
	i := newInbox(t, s.db, inbox.Config{Committed: writer.Wake})
	followUp := func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		if err := writer.Append(ctx, tx, outbox.Message{Topic: "shipment.v1", Key: "k1", Type: "shipment.sent", Payload: msg.Payload}); err != nil {
			return err
		}
		return effect(ctx, tx, msg)
	}
	one, many := i.Handler(followUp), i.Batch(followUp)
	a, b, poison := newEvent("k1", 7, "a"), newEvent("k2", 8, "b"), newEvent("k3", 9, "poison")
	require.NoError(t, one(a.deliver(t.Context())))
	require.Equal(t, 1, woken)
	var left *consumer.BatchError
	require.ErrorAs(t, many(batchOf(t.Context(), a, b, poison)), &left)
	require.Equal(t, 2, woken)
	require.ErrorIs(t, one(poison.deliver(t.Context())), errPoison)
	require.NoError(t, many(batchOf(t.Context(), a, b)))
	require.Equal(t, 2, woken, "nothing was appended, nobody is woken")
	require.Equal(t, 1, s.count(`SELECT count(*) FROM outbox WHERE payload = 'a'`))
	require.Equal(t, 1, s.count(`SELECT count(*) FROM outbox WHERE payload = 'b'`))
	require.Equal(t, 2, s.count(`SELECT count(*) FROM outbox`))
}

func TestTyped_DecodesOutsideOfTheTransactionsWork(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	type order struct{ ID string }
	handle := newInbox(t, s.db, inbox.Config{}).Handler(inbox.Typed(consumer.JSON[order], func(ctx context.Context, tx *sql.Tx, o order) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO effect (consumer, event, key) VALUES ('', $1, '')`, o.ID)
		return err
	}))
	require.NoError(t, handle(newEvent("k1", 7, `{"ID":"o-1"}`).deliver(t.Context())))
	err := handle(newEvent("k1", 8, `{broken`).deliver(t.Context()))
	require.ErrorIs(t, err, consumer.ErrDecode)
	require.Equal(t, consumer.VerdictFatal, consumer.Classify(err))
	require.Equal(t, []string{"o-1"}, s.effects())
	require.Nil(t, inbox.Typed[order](nil, nil))
}

func TestHandler_AMissingTableIsAnErrorThatSaysSo(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.exec(`DROP TABLE consumer_inbox`)
	err := newInbox(t, s.db, inbox.Config{}).Handler(effect)(newEvent("k1", 7, "a").deliver(t.Context()))
	require.ErrorContains(t, err, `consumer_inbox`)
	require.NotErrorIs(t, err, context.Canceled)
}

func TestHandler_AnEventWithoutRecordIsKnownByItsMessageID(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	handle := newInbox(t, s.db, inbox.Config{}).Handler(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO effect (consumer, event, key) VALUES ('', $1, '')`, string(msg.Payload))
		return err
	})
	id := uuid.NewString()
	for range 2 {
		require.NoError(t, handle(message.NewMessage(id, []byte("a"))))
	}
	require.Equal(t, []string{"a"}, s.effects())
}
