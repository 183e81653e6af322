package watermillsql_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/watermillsql"
	"github.com/millrace-go/millrace/test/harness"
)

// TestPubSub is Watermill's own suite over watermill-sql's publisher and
// subscriber with our adapters, with the features that watermill-sql declares for
// Postgres. The suite's messages have no key, so the topic is the key.
func TestPubSub(t *testing.T) {
	db := harness.NewDatabase(t).DB
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups: true, ExactlyOnceDelivery: true, GuaranteedOrder: true, Persistent: true,
	}, func(t *testing.T) (message.Publisher, message.Subscriber) {
		return stockPubSub(t, db, "")
	}, func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return stockPubSub(t, db, group)
	})
}

func stockPubSub(t *testing.T, db *sql.DB, group string) (message.Publisher, message.Subscriber) {
	t.Helper()
	schema := watermillsql.NewSchema(watermillsql.SchemaConfig{Key: topicAsKey})
	pub, err := wsql.NewPublisher(db, wsql.PublisherConfig{SchemaAdapter: schema, AutoInitializeSchema: true}, nil)
	require.NoError(t, err)
	sub := &settledSubscriber{Subscriber: stockSubscriber(t, db, group), closing: make(chan struct{})}
	t.Cleanup(func() { require.NoError(t, sub.Close()) }) // the suite leaves some open
	return pub, sub
}

// settledSubscriber closes its channels before Close returns, as the suite demands.
// The stock subscriber closes them right after.
type settledSubscriber struct {
	*wsql.Subscriber
	closing chan struct{}
	once    sync.Once
	running sync.WaitGroup
}

func (s *settledSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, err := s.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	s.running.Go(func() {
		defer close(out)
		for msg := range in {
			select {
			case out <- msg:
			case <-ctx.Done():
			case <-s.closing:
			}
		}
	})
	return out, nil
}

func (s *settledSubscriber) Close() error {
	s.once.Do(func() { close(s.closing) })
	err := s.Subscriber.Close()
	s.running.Wait()
	return err
}

func stockSubscriber(t *testing.T, db *sql.DB, group string) *wsql.Subscriber {
	t.Helper()
	sub, err := wsql.NewSubscriber(db, wsql.SubscriberConfig{
		ConsumerGroup: group, SchemaAdapter: watermillsql.NewSchema(watermillsql.SchemaConfig{}), OffsetsAdapter: watermillsql.NewOffsets(),
		InitializeSchema: true, PollInterval: 10 * time.Millisecond, ResendInterval: 10 * time.Millisecond, RetryInterval: 10 * time.Millisecond,
	}, nil)
	require.NoError(t, err)
	return sub
}

func topicAsKey(topic string, _ *message.Message) (string, error) { return topic, nil }
