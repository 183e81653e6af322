package consumer_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/internal/testbroker"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

const (
	topic = testbroker.Topic
	dlt   = topic + ".dlt"
	group = testbroker.Group
)

func TestMain(m *testing.M) { harness.Main(m) }

type (
	broker = testbroker.Publisher
	sent   = testbroker.Sent
)

func newRecord(headers ...record.Header) *record.Record { return testbroker.NewRecord(headers...) }

func header(name, value string) record.Header { return testbroker.Header(name, value) }

// feed is a subscriber that a test hands messages to. Its channel is closed when
// the subscription's context ends.
type feed struct {
	out    chan *message.Message
	ctx    context.Context // of the subscription, as real subscribers keep it
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
