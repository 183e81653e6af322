package outbox_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// broker is a BatchPublisher in memory that keeps what it took, in order.
type broker struct {
	mu     sync.Mutex
	log    []outbox.Entry
	refuse map[string]error // payload -> verdict
	vet    map[string]bool  // payloads that Vet refuses
	// hold, if not nil, keeps acknowledgements back until it is closed. What is
	// held when the context ends fails, although the broker has taken it not.
	hold chan struct{}
	last chan struct{} // closed when the batch held last has its verdicts
}

var _ outbox.BatchPublisher = (*broker)(nil)

func (b *broker) PublishBatch(ctx context.Context, entries []outbox.Entry, ack func(int, error)) {
	b.mu.Lock()
	hold, before, done := b.hold, b.last, make(chan struct{})
	b.last = done
	b.mu.Unlock()
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		if hold == nil {
			b.take(entries, ack)
			return
		}
		select {
		case <-hold:
			b.take(entries, ack)
		case <-ctx.Done():
			for i := range entries {
				ack(i, context.Cause(ctx))
			}
		}
	}()
}

func (b *broker) take(entries []outbox.Entry, ack func(int, error)) {
	verdicts := make([]error, len(entries))
	b.mu.Lock()
	for i, e := range entries {
		if verdicts[i] = b.refuse[string(e.Payload)]; verdicts[i] == nil {
			b.log = append(b.log, e)
		}
	}
	b.mu.Unlock()
	for i, err := range verdicts {
		ack(i, err)
	}
}

func (b *broker) Vet(_ context.Context, e *outbox.Entry) error {
	if b.vet[string(e.Payload)] {
		return outbox.Unpublishable("message too large", nil)
	}
	return nil
}

func (b *broker) Publish(string, ...*message.Message) error {
	panic("a BatchPublisher is used through PublishBatch")
}

func (b *broker) Close() error { return nil }

// payloads returns what arrived, of one key or (key "") of all.
func (b *broker) payloads(key string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var got []string
	for _, e := range b.log {
		if key == "" || e.Key == key {
			got = append(got, string(e.Payload))
		}
	}
	return got
}

func (b *broker) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.log)
}

// write commits one message a payload, each in its own transaction.
func write(t *testing.T, log *outboxtest.MemoryLog, key string, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		tx, err := log.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, tx.Append(t.Context(), outbox.Message{ID: uuid.New(), Topic: "t", Key: key, Payload: []byte(p)}))
		require.NoError(t, tx.Commit())
	}
}

func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(prefix, i)
	}
	return out
}

// start runs a relay and returns what stops it and waits for it.
func start(t *testing.T, log outbox.Log, pub message.Publisher, cfg outbox.RelayConfig) (*outbox.Relay, func()) {
	t.Helper()
	relay, err := outbox.NewRelay(log, pub, cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return relay, stop
}
