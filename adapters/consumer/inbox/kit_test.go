package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

const (
	topic    = "order.v1"
	group    = "shipping"
	liveness = 3 * time.Minute
)

var errPoison = errors.New("poison")

// store is a database with what effects write: one row for each effect made.
type store struct {
	t   testing.TB
	db  *sql.DB
	dsn string
}

func newStore(t testing.TB) *store {
	t.Helper()
	d := harness.NewDatabase(t)
	_, err := d.DB.ExecContext(t.Context(), `CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, consumer text NOT NULL, event text NOT NULL, key text NOT NULL)`)
	require.NoError(t, err)
	return &store{t: t, db: d.DB, dsn: d.DSN}
}

func newInbox(t testing.TB, db *sql.DB, cfg inbox.Config) *inbox.Inbox {
	t.Helper()
	return newInboxOf(t, db, group, cfg)
}

func newInboxOf(t testing.TB, db *sql.DB, group string, cfg inbox.Config) *inbox.Inbox {
	t.Helper()
	i, err := inbox.New(db, group, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = i.Close() })
	return i
}

// effect writes the row of a message. Poison writes it too and then fails.
func effect(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
	rec, _ := record.From(msg.Context())
	if _, err := tx.ExecContext(ctx, `INSERT INTO effect (consumer, event, key) VALUES ($1, $2, $3)`, rec.Group, string(msg.Payload), string(rec.Key)); err != nil {
		return err
	}
	if strings.Contains(string(msg.Payload), "poison") {
		return errPoison
	}
	return nil
}

// effects returns the events whose effects are there, in order.
func (s *store) effects() (events []string) {
	s.t.Helper()
	rows, err := s.db.QueryContext(context.Background(), `SELECT event FROM effect ORDER BY n`)
	require.NoError(s.t, err)
	defer rows.Close()
	for rows.Next() {
		var e string
		require.NoError(s.t, rows.Scan(&e))
		events = append(events, e)
	}
	require.NoError(s.t, rows.Err())
	return events
}

func (s *store) count(query string, args ...any) (n int) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRowContext(context.Background(), query, args...).Scan(&n))
	return n
}

func (s *store) exec(query string, args ...any) {
	s.t.Helper()
	_, err := s.db.ExecContext(context.Background(), query, args...)
	require.NoError(s.t, err)
}

// event is what a producer wrote; deliveries of it differ in their context.
type event struct {
	id      string // none: the record has no event-id
	key     string
	payload string
	offset  int64
	version int64
	at      time.Time // zero: the record has no occurred-at
	headers []record.Header
}

// newEvent is an event of key k at an offset, which is its version too.
func newEvent(key string, offset int64, payload string) event {
	return event{id: uuid.NewString(), key: key, payload: payload, offset: offset, at: time.Now()}
}

func (e event) deliver(ctx context.Context) *message.Message {
	rec := &record.Record{Topic: topic, Partition: 1, Offset: e.offset, Group: group, Headers: e.headers}
	if e.key != "" {
		rec.Key = []byte(e.key)
	}
	add := func(name, value string) {
		rec.Headers = append(rec.Headers, record.Header{Key: name, Value: []byte(value)})
	}
	if e.id != "" {
		add(outbox.HeaderEventID, e.id)
	}
	if e.version > 0 {
		add(outbox.HeaderAggregateType, "order")
		add(outbox.HeaderAggregateID, e.key)
		add(outbox.HeaderAggregateVersion, fmt.Sprint(e.version))
	}
	if !e.at.IsZero() {
		add(outbox.HeaderOccurredAt, e.at.UTC().Format(time.RFC3339Nano))
	}
	id := e.id
	if id == "" {
		id = uuid.NewString() // as subscribers make them up
	}
	msg := message.NewMessageWithContext(record.With(ctx, rec), id, []byte(e.payload))
	for _, h := range rec.Headers {
		msg.Metadata.Set(h.Key, string(h.Value))
	}
	return msg
}

func batchOf(ctx context.Context, events ...event) *record.Batch {
	var msgs []*message.Message
	for _, e := range events {
		msgs = append(msgs, e.deliver(ctx))
	}
	return record.NewBatch(ctx, topic, 1, msgs, nil)
}

// commits collects what the hook tells.
type commits struct {
	mu  sync.Mutex
	all []inbox.Commit
}

func (c *commits) hooks() inbox.Hooks {
	return inbox.Hooks{Committed: func(done inbox.Commit) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all = append(c.all, done)
	}}
}

func (c *commits) last(t testing.TB) inbox.Commit {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.NotEmpty(t, c.all)
	return c.all[len(c.all)-1]
}
