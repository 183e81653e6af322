package watermillsql_test

import (
	"database/sql"
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
	schema := watermillsql.Schema{Key: topicAsKey}
	pub, err := wsql.NewPublisher(db, wsql.PublisherConfig{SchemaAdapter: schema, AutoInitializeSchema: true}, nil)
	require.NoError(t, err)
	sub := stockSubscriber(t, db, group)
	t.Cleanup(func() { require.NoError(t, sub.Close()) }) // the suite leaves some open
	return pub, sub
}

func stockSubscriber(t *testing.T, db *sql.DB, group string) *wsql.Subscriber {
	t.Helper()
	sub, err := wsql.NewSubscriber(db, wsql.SubscriberConfig{
		ConsumerGroup: group, SchemaAdapter: watermillsql.Schema{}, OffsetsAdapter: watermillsql.Offsets{},
		InitializeSchema: true, PollInterval: 10 * time.Millisecond, ResendInterval: 10 * time.Millisecond, RetryInterval: 10 * time.Millisecond,
	}, nil)
	require.NoError(t, err)
	return sub
}

func topicAsKey(topic string, _ *message.Message) (string, error) { return topic, nil }
