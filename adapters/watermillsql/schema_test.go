package watermillsql_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"testing"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/watermillsql"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
)

func TestSchema_StockPublisherWritesWhatOurPublisherWrites(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	msg := message.NewMessage(uuid.NewString(), []byte{0, 1, 0xff})
	msg.Metadata = message.Metadata{
		outbox.MetadataKey: "k\"1", "event-type": "thing.done", "aggregate-type": "thing", "aggregate-id": "7",
		"aggregate-version": "3", "traceparent": "00-x", "own": `a"b\c`,
	}
	null := message.NewMessage("01J0ULID", nil)
	null.Metadata.Set(outbox.MetadataKey, "k2")

	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	stock, err := wsql.NewPublisher(tx, wsql.PublisherConfig{SchemaAdapter: watermillsql.NewSchema(watermillsql.SchemaConfig{})}, nil)
	require.NoError(t, err)
	require.NoError(t, stock.Publish("thing.v1", msg, null))
	ours, err := outbox.NewPublisher(newWriter(t, db), tx, nil)
	require.NoError(t, err)
	require.NoError(t, ours.Publish("thing.v1", msg, null))
	require.NoError(t, tx.Commit())

	rows := contents(t, db)
	require.Len(t, rows, 4)
	require.Equal(t, rows[2:], rows[:2])
	require.Contains(t, rows[0], "thing.done")
	require.Contains(t, rows[1], `"payload":null`)
}

func TestSchema_StockPublisherRollsBackWithItsTransaction(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	publish(t, tx, watermillsql.NewSchema(watermillsql.SchemaConfig{Key: topicAsKey}), "t", "a")
	require.NoError(t, tx.Rollback())
	require.Empty(t, contents(t, db))
}

func TestSchema_RefusesBadMessagesBeforeAnyIO(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	pub, err := wsql.NewPublisher(tx, wsql.PublisherConfig{SchemaAdapter: watermillsql.NewSchema(watermillsql.SchemaConfig{})}, nil)
	require.NoError(t, err)
	require.ErrorIs(t, pub.Publish("t", message.NewMessage(uuid.NewString(), nil)), outbox.ErrInvalidMessage, "no key")
	publish(t, tx, watermillsql.NewSchema(watermillsql.SchemaConfig{Key: topicAsKey}), "t", "the transaction is still usable")
	require.NoError(t, tx.Commit())
}

func TestSchema_NamesTheMessageThatIsBad(t *testing.T) {
	t.Parallel()
	good, bad := message.NewMessage(uuid.NewString(), []byte(`{"destination_topic": "t"}`)), message.NewMessage(uuid.NewString(), []byte(`{"destination_topic": "t"}`))
	good.Metadata.Set(outbox.MetadataKey, "k")
	_, err := watermillsql.NewSchema(watermillsql.SchemaConfig{}).InsertQuery("t", message.Messages{good, bad})
	var refused *outbox.MessageError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 1, refused.Index)

	keyed := watermillsql.SchemaConfig{Key: func(_ string, m *message.Message) (string, error) { return m.Metadata.Get("k"), nil }}
	enveloped := message.NewMessage(uuid.NewString(), []byte(`{"destination_topic": "t", "metadata": {"k": "a"}}`))
	_, err = watermillsql.NewSwitchSchema(watermillsql.SwitchSchemaConfig{Outbox: keyed}).InsertQuery("t", message.Messages{enveloped, bad})
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 1, refused.Index)
}

// A writer that drew an early position and commits late must not be passed over,
// while rows below it may be delivered.
func TestSubscriber_DoesNotLoseALateCommit(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	schema := watermillsql.NewSchema(watermillsql.SchemaConfig{Key: topicAsKey})
	messages, err := stockSubscriber(t, db, "g").Subscribe(t.Context(), "t")
	require.NoError(t, err)
	publish(t, db, schema, "t", "before")
	require.Equal(t, "before", receive(t, messages))

	slow, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	publish(t, slow, schema, "t", "slow")
	publish(t, db, schema, "t", "quick")
	select {
	case m := <-messages:
		require.Fail(t, "delivered above an open position", "%s", m.Payload)
	case <-time.After(300 * time.Millisecond): // many polls
	}
	require.NoError(t, slow.Commit())
	require.Equal(t, "slow", receive(t, messages))
	require.Equal(t, "quick", receive(t, messages))
}

func TestSubscriber_GoesOnBelowALongTransactionAndBeyondOtherTopics(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	schema := watermillsql.NewSchema(watermillsql.SchemaConfig{Key: topicAsKey})
	messages, err := stockSubscriber(t, db, "g").Subscribe(t.Context(), "t")
	require.NoError(t, err)
	for range 300 {
		publish(t, db, schema, "other", "x")
	}
	publish(t, db, schema, "t", "1")
	require.Equal(t, "1", receive(t, messages))
	rolledBack, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	publish(t, rolledBack, schema, "t", "never")
	require.NoError(t, rolledBack.Rollback())
	publish(t, db, schema, "t", "2")
	require.Equal(t, "2", receive(t, messages))

	// The cursor passes what is of other topics.
	for range 10 {
		publish(t, db, schema, "other", "x")
	}
	require.Eventually(t, func() bool {
		var done bool
		err := db.QueryRow(`SELECT c.position = s.last_value FROM outbox_cursor c, outbox_position_seq s WHERE relay = 'g.t'`).Scan(&done)
		return err == nil && done
	}, 2*time.Minute, 10*time.Millisecond)
}

func TestSubscriber_HandsItsCursorToOutboxSubscriber(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	schema := watermillsql.NewSchema(watermillsql.SchemaConfig{Key: topicAsKey})
	sub := stockSubscriber(t, db, "g")
	messages, err := sub.Subscribe(t.Context(), "t")
	require.NoError(t, err)
	publish(t, db, schema, "t", "1")
	require.Equal(t, "1", receive(t, messages))
	require.Eventually(t, func() bool { // acknowledged
		var position int64
		return db.QueryRow(`SELECT position FROM outbox_cursor WHERE relay = 'g.t'`).Scan(&position) == nil && position > 0
	}, 2*time.Minute, 10*time.Millisecond)
	require.NoError(t, sub.Close())

	store, err := pgstore.New(db, pgstore.Config{})
	require.NoError(t, err)
	ours, err := outbox.NewSubscriber(store, outbox.SubscriberConfig{Group: "g"})
	require.NoError(t, err)
	defer func() { require.NoError(t, ours.Close()) }()
	messages, err = ours.Subscribe(t.Context(), "t")
	require.NoError(t, err)
	publish(t, db, schema, "t", "2")
	require.Equal(t, "2", receive(t, messages))

	// While ours leads, the stock one gets nothing.
	other := stockSubscriber(t, db, "g")
	defer func() { require.NoError(t, other.Close()) }()
	idle, err := other.Subscribe(t.Context(), "t")
	require.NoError(t, err)
	publish(t, db, schema, "t", "3")
	require.Equal(t, "3", receive(t, messages))
	select {
	case m := <-idle:
		require.Fail(t, "two lead", "%s", m.Payload)
	case <-time.After(200 * time.Millisecond):
	}
}

func TestSubscriber_RefusesForeignOffsetsAndStricterIsolation(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	q := watermillsql.NewSchema(watermillsql.SchemaConfig{}).SelectQuery("t", "g", wsql.DefaultPostgreSQLOffsetsAdapter{})
	_, err := db.ExecContext(t.Context(), q.Query, q.Args...)
	require.ErrorContains(t, err, "watermillsql.NewOffsets")

	for _, init := range watermillsql.NewOffsets().SchemaInitializingQueries("t") {
		_, err := db.ExecContext(t.Context(), init.Query)
		require.NoError(t, err)
	}
	for _, before := range watermillsql.NewOffsets().BeforeSubscribingQueries("t", "g") {
		_, err := db.ExecContext(t.Context(), before.Query, before.Args...)
		require.NoError(t, err)
	}
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	q = watermillsql.NewSchema(watermillsql.SchemaConfig{}).SelectQuery("t", "g", watermillsql.NewOffsets())
	_, err = tx.ExecContext(t.Context(), q.Query, q.Args...)
	require.ErrorContains(t, err, "READ COMMITTED")
}

func newWriter(t *testing.T, db *sql.DB) *outbox.Writer {
	t.Helper()
	store, err := pgstore.New(db, pgstore.Config{})
	require.NoError(t, err)
	w, err := outbox.NewWriter(store, outbox.WriterConfig{})
	require.NoError(t, err)
	return w
}

func publish(t *testing.T, db wsql.ContextExecutor, schema wsql.SchemaAdapter, topic string, payloads ...string) {
	t.Helper()
	pub, err := wsql.NewPublisher(db, wsql.PublisherConfig{SchemaAdapter: schema}, nil)
	require.NoError(t, err)
	for _, p := range payloads {
		require.NoError(t, pub.Publish(topic, message.NewMessage(uuid.NewString(), []byte(p))))
	}
}

func receive(t *testing.T, messages <-chan *message.Message) string {
	t.Helper()
	select {
	case m, ok := <-messages:
		require.True(t, ok)
		m.Ack()
		return string(m.Payload)
	case <-time.After(2 * time.Minute):
		require.Fail(t, "no message")
		return ""
	}
}

// contents are the outbox's rows without position and time, as JSON.
func contents(t *testing.T, db *sql.DB) []string {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), `SELECT to_jsonb(o) - 'position' - 'created_at' FROM outbox o ORDER BY position`)
	require.NoError(t, err)
	defer rows.Close()
	var out []string
	for rows.Next() {
		var b []byte
		require.NoError(t, rows.Scan(&b))
		var compact map[string]any
		require.NoError(t, json.Unmarshal(b, &compact))
		b, err := json.Marshal(compact)
		require.NoError(t, err)
		out = append(out, string(b))
	}
	require.NoError(t, rows.Err())
	return out
}
