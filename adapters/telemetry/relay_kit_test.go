package telemetry_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// broker is a BatchPublisher and Vetter that keeps what it took.
type broker struct {
	mu     sync.Mutex
	took   []outbox.Entry
	refuse map[string]bool // payloads that Vet refuses
	fail   error           // for the next batch
	hold   chan struct{}   // if not nil, nothing is acknowledged until it is closed
}

func (b *broker) PublishBatch(ctx context.Context, entries []outbox.Entry, ack func(int, error)) {
	b.mu.Lock()
	err, hold := b.fail, b.hold
	b.fail = nil
	b.mu.Unlock()
	go func() {
		if hold != nil {
			select {
			case <-hold:
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		for i := range entries {
			if err == nil {
				b.mu.Lock()
				b.took = append(b.took, entries[i])
				b.mu.Unlock()
			}
			ack(i, err)
		}
	}()
}

func (b *broker) Vet(_ context.Context, e *outbox.Entry) error {
	if b.refuse[string(e.Payload)] {
		return outbox.Unpublishable("message too large", nil)
	}
	return nil
}

func (b *broker) Publish(string, ...*message.Message) error { return nil }
func (b *broker) Close() error                              { return nil }

func (b *broker) taken() []outbox.Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]outbox.Entry(nil), b.took...)
}

// memoryStore is an Appender that commits each call to a MemoryLog.
type memoryStore struct{ log *outboxtest.MemoryLog }

func (s memoryStore) Append(ctx context.Context, _ *sql.Tx, msgs []outbox.Message) error {
	tx, err := s.log.Begin(ctx)
	if err != nil {
		return err
	}
	if err := tx.Append(ctx, msgs...); err != nil {
		return err
	}
	return tx.Commit()
}

// write commits n messages to topic.
func write(t *testing.T, log *outboxtest.MemoryLog, topic string, n int) {
	t.Helper()
	var msgs []outbox.Message
	for i := range n {
		msgs = append(msgs, outbox.Message{Topic: topic, Key: fmt.Sprint("k", i), Payload: []byte("0123456789")})
	}
	require.NoError(t, memoryStore{log}.Append(t.Context(), nil, msgs))
}

// start runs a relay until stop is called, which waits for it.
func start(t *testing.T, log outbox.Log, pub message.Publisher, cfg outbox.RelayConfig) (relay *outbox.Relay, stop func()) {
	t.Helper()
	relay, err := outbox.NewRelay(log, pub, cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return relay, stop
}
