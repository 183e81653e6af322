package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/outbox"
)

// logged takes the lines of a log that several goroutines write.
type logged struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// line returns the first line with msg, or nil.
func (l *logged) line(t *testing.T, msg string) map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	d := json.NewDecoder(bytes.NewReader(l.out.Bytes()))
	for d.More() {
		var line map[string]any
		require.NoError(t, d.Decode(&line))
		if line["msg"] == msg {
			return line
		}
	}
	return nil
}

// What Watermill's router itself says about a message that failed is found by the
// message's trace, although its logger is told no context.
func TestWatermillLogger_WritesTheRoutersLinesUnderTheTraceOfTheMessage(t *testing.T) {
	t.Parallel()
	var out logged
	logger := telemetry.NewWatermillLogger(slog.New(telemetry.NewHandler(slog.NewJSONHandler(&out, nil))))
	pubsub := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	defer func() { require.NoError(t, pubsub.Close()) }()
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 20 * time.Second}, logger)
	require.NoError(t, err)
	failed := false
	handled := make(chan struct{})
	router.AddConsumerHandler("orders", "orders", pubsub, func(*message.Message) error {
		if !failed {
			failed = true
			return errors.New("not now")
		}
		close(handled)
		return nil
	}).AddMiddleware(consumer.Trace(telemetry.Tracer{}))
	done := make(chan error, 1)
	go func() { done <- router.Run(context.WithoutCancel(t.Context())) }()
	<-router.Running()
	msg := message.NewMessage("1", []byte("x"))
	msg.Metadata.Set(outbox.HeaderTraceparent, parent)
	require.NoError(t, pubsub.Publish("orders", msg))
	select {
	case <-handled:
	case <-time.After(2 * time.Minute):
		require.Fail(t, "the message did not come again")
	}
	require.NoError(t, router.Close())
	require.NoError(t, <-done)

	line := out.line(t, "Handler returned error")
	require.NotNil(t, line)
	trace, _ := telemetry.ParseTraceparent(parent)
	require.Equal(t, trace.ID(), line["trace_id"])
	require.Equal(t, "1", line["message_uuid"])
	require.Equal(t, "not now", line["error"])
	require.NotContains(t, out.line(t, "Router closed"), "trace_id")
}
