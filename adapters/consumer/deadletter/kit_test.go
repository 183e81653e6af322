package deadletter_test

import (
	"context"
	"errors"
	"slices"
	"testing"

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

var errDown = errors.New("dependency is down")

type (
	broker = testbroker.Publisher
	sent   = testbroker.Sent
)

func newRecord(headers ...record.Header) *record.Record { return testbroker.NewRecord(headers...) }

func header(name, value string) record.Header { return testbroker.Header(name, value) }

// deadLetterOf runs a message with rec through the consumer's middleware and a
// handler that fails.
func deadLetterOf(t *testing.T, rec *record.Record, err error) sent {
	t.Helper()
	b := &broker{}
	chain, cerr := consumer.Middlewares("views", topic, b, consumer.Config{Retry: consumer.FixedBackOff(0, 0)})
	require.NoError(t, cerr)
	msg := message.NewMessageWithContext(record.With(context.Background(), rec), "id-1", nil)
	handle := func(*message.Message) ([]*message.Message, error) { return nil, err }
	for _, middleware := range slices.Backward(chain) {
		handle = middleware(handle)
	}
	_, got := handle(msg)
	require.NoError(t, got)
	return b.All()[0]
}
