package quarantine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/quarantine"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

const (
	topic = "notification.v1"
	group = "sender"
	part  = 3
)

var errBad = errors.New("gateway says no")

// deadLetterTopic is a publisher that keeps the dead letters in memory.
type deadLetterTopic struct {
	mu     sync.Mutex
	all    []record.Record
	refuse error
}

func (l *deadLetterTopic) Publish(_ string, msgs ...*message.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return l.refuse
	}
	for _, m := range msgs {
		r, _ := record.From(m.Context())
		l.all = append(l.all, *r)
	}
	return nil
}

func (l *deadLetterTopic) Close() error { return nil }

func (l *deadLetterTopic) of(id string) *record.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range slices.Backward(l.all) {
		if header(&r, outbox.HeaderEventID) == id {
			return &r
		}
	}
	return nil
}

// member is one consumer of the partition, without a broker.
type member struct {
	t     *testing.T
	q     *quarantine.Quarantine
	chain message.HandlerFunc
	dead  *deadLetterTopic
	claim int64
	ctx   context.Context // of its claim
	end   context.CancelFunc

	mu      sync.Mutex
	handled []string
	bad     map[string]bool
	during  func(id string) // runs in the handler
}

// newMember joins with claim number claim. Members share the dead-letter topic.
func newMember(t *testing.T, db *harness.Database, shared *deadLetterTopic, claim int64, cfg quarantine.Config) *member {
	t.Helper()
	q, err := quarantine.New(db.DB, cfg)
	require.NoError(t, err)
	m := &member{t: t, q: q, dead: shared, claim: claim, bad: map[string]bool{}}
	m.ctx, m.end = context.WithCancel(t.Context())
	chain, err := consumer.Middlewares("shipping", topic, shared,
		consumer.Config{Timeout: -1, Retry: consumer.FixedBackOff(0, 0), DeadLetterWait: time.Millisecond, MaxDeadLetterWait: 5 * time.Millisecond},
		consumer.WithAround(q.Middleware()))
	require.NoError(t, err)
	m.chain = m.handle
	for _, middleware := range slices.Backward(chain) {
		m.chain = middleware(m.chain)
	}
	return m
}

// alone is a member that shares the partition with nobody.
func alone(t *testing.T) (*member, *harness.Database) {
	t.Helper()
	db := harness.NewDatabase(t)
	return newMember(t, db, &deadLetterTopic{}, 1, quarantine.Config{}), db
}

func (m *member) handle(msg *message.Message) ([]*message.Message, error) {
	m.mu.Lock()
	during := m.during
	m.mu.Unlock()
	if during != nil {
		during(msg.UUID)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bad[msg.UUID] {
		return nil, consumer.Fatal(errBad)
	}
	m.handled = append(m.handled, msg.UUID)
	return nil, nil
}

func (m *member) done() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.handled)
}

func (m *member) deliver(rec *record.Record) error {
	rec.ClaimEpoch = m.claim
	msg := message.NewMessageWithContext(record.With(m.ctx, rec), header(rec, outbox.HeaderEventID), nil)
	_, err := m.chain(msg)
	return err
}

// live delivers the record of key at offset; its id is key and offset.
func (m *member) live(key string, offset int64) {
	m.t.Helper()
	require.NoError(m.t, m.deliver(newRecord(key, offset)))
}

// fail delivers that record, which becomes a dead letter unless it must wait.
func (m *member) fail(key string, offset int64) {
	m.t.Helper()
	m.bad[fmt.Sprint(key, offset)] = true
	m.live(key, offset)
}

// replay delivers the dead letter of id as a replay would send it.
func (m *member) replay(id string, at int64) {
	m.t.Helper()
	require.NoError(m.t, m.deliver(m.copyOf(id, at)))
}

func (m *member) copyOf(id string, at int64) *record.Record {
	deadLetter := m.dead.of(id)
	require.NotNil(m.t, deadLetter, "no dead letter of %s", id)
	count, _ := strconv.Atoi(header(deadLetter, deadletter.HeaderReplayCount))
	rec := &record.Record{Topic: topic, Partition: part, Offset: at, Group: group, Key: deadLetter.Key}
	for _, h := range deadLetter.Headers {
		if h.Key != deadletter.HeaderReplayCount {
			rec.Headers = append(rec.Headers, h)
		}
	}
	rec.Headers = append(rec.Headers, text(deadletter.HeaderReplayID, "r"), text(deadletter.HeaderReplayCount, strconv.Itoa(count+1)))
	return rec
}

func newRecord(key string, offset int64) *record.Record {
	return &record.Record{
		Topic: topic, Partition: part, Offset: offset, Group: group, Key: []byte(key),
		Headers: []record.Header{text(outbox.HeaderEventID, fmt.Sprint(key, offset))},
	}
}

func text(name, value string) record.Header { return record.Header{Key: name, Value: []byte(value)} }

func header(rec *record.Record, name string) string {
	for _, h := range slices.Backward(rec.Headers) {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// waiting lists "key offset" of what waits.
func waiting(t *testing.T, db *harness.Database) (ids []string) {
	t.Helper()
	entries, err := newTool(t, db).List(t.Context(), quarantine.Filter{Group: group, Topic: topic, Partitions: []int32{part}})
	require.NoError(t, err)
	for _, e := range entries {
		ids = append(ids, fmt.Sprint(string(e.Key), e.Offset))
	}
	return ids
}
