package consumer_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

const (
	topic = "notification.v1"
	dlt   = "notification.v1.dlt"
	group = "views"
)

func TestMain(m *testing.M) { harness.Main(m) }

// sent is one record that a publisher took.
type sent struct {
	Topic     string
	Partition int32
	Key       []byte
	Headers   []record.Header
	Value     []byte
}

// broker is a publisher that honours record.Record as package kafka's does. The
// errors in refuse answer the next publishes.
type broker struct {
	mu      sync.Mutex
	records []sent
	times   []time.Time
	refuse  []error
	judge   func(sent) error
	closed  bool
}

func (b *broker) Publish(topic string, msgs ...*message.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.times = append(b.times, time.Now())
	if len(b.refuse) > 0 {
		err := b.refuse[0]
		b.refuse = b.refuse[1:]
		return err
	}
	for _, m := range msgs {
		if err := m.Context().Err(); err != nil {
			return err
		}
		r, ok := record.From(m.Context())
		if !ok {
			return errors.New("no record in the context")
		}
		s := sent{Topic: topic, Partition: r.Partition, Key: r.Key, Headers: r.Headers, Value: m.Payload}
		if b.judge != nil {
			if err := b.judge(s); err != nil {
				return err
			}
		}
		b.records = append(b.records, s)
	}
	return nil
}

func (b *broker) Close() error {
	b.closed = true
	return nil
}

func (b *broker) all() []sent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.records)
}

func (s sent) header(name string) string {
	for _, h := range slices.Backward(s.Headers) {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func (s sent) count(name string) (n int) {
	for _, h := range s.Headers {
		if h.Key == name {
			n++
		}
	}
	return n
}

// feed is a subscriber that a test hands messages to. Its channel is closed when
// the subscription's context ends.
type feed struct {
	out    chan *message.Message
	ctx    context.Context //nolint:containedctx // of the subscription, as real subscribers keep it
	closed atomic.Bool
	once   sync.Once
}

func newFeed() *feed { return &feed{out: make(chan *message.Message)} }

func (f *feed) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	f.ctx = ctx
	context.AfterFunc(ctx, f.end)
	return f.out, nil
}

func (f *feed) end() { f.once.Do(func() { close(f.out) }) }

func (f *feed) Close() error {
	f.closed.Store(true)
	f.end()
	return nil
}

// give hands over the message of rec, as a Kafka subscriber would: a stop does
// not end its context.
func (f *feed) give(rec *record.Record, payload string) *message.Message {
	m := newMessage(context.WithoutCancel(f.ctx), rec, payload)
	f.out <- m
	return m
}

func newMessage(ctx context.Context, rec *record.Record, payload string) *message.Message {
	m := message.NewMessageWithContext(record.With(ctx, rec), "id-1", []byte(payload))
	for _, h := range rec.Headers {
		m.Metadata.Set(h.Key, string(h.Value))
	}
	return m
}

func newRecord(headers ...record.Header) *record.Record {
	return &record.Record{
		Topic: topic, Partition: 3, Offset: 42, Group: group, Key: []byte("recipient-1"),
		Timestamp: time.UnixMilli(1_700_000_000_123), Headers: headers,
	}
}

func header(name, value string) record.Header {
	return record.Header{Key: name, Value: []byte(value)}
}

// start runs the router and returns a function that stops it and its result.
func start(t *testing.T, r *consumer.Router) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	select {
	case <-r.Running():
	case err := <-done:
		require.FailNow(t, "router ended", "%v", err)
	}
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-done
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// deliveries collects what the hook Delivered tells.
type deliveries chan consumer.Delivery

func (d deliveries) hooks() consumer.Hooks {
	return consumer.Hooks{Delivered: func(v consumer.Delivery) { d <- v }}
}

func (d deliveries) next(t *testing.T) consumer.Delivery {
	t.Helper()
	select {
	case v := <-d:
		return v
	case <-time.After(liveness):
		require.FailNow(t, "no delivery")
		return consumer.Delivery{}
	}
}

func acked(m *message.Message) bool {
	select {
	case <-m.Acked():
		return true
	default:
		return false
	}
}
