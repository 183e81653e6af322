package pgstore_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
)

// TestPubSub is Watermill's own suite over the outbox as publisher and
// subscriber. Its messages have no key, so the topic is the key: that promises
// the order the suite asks for. Not declared: ExactlyOnceDelivery (delivery is at
// least once), ContextPreserved (a context does not survive a database), and
// NewSubscriberReceivesOldMessages (a subscriber always has a group, and goes on
// from the group's cursor).
func TestPubSub(t *testing.T) {
	db := harness.NewDatabase(t).DB
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups: true, GuaranteedOrder: true, Persistent: true,
	}, func(t *testing.T) (message.Publisher, message.Subscriber) {
		return newPubSub(t, db, "g")
	}, func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return newPubSub(t, db, group[:20])
	})
}

func newPubSub(t *testing.T, db *sql.DB, group string) (message.Publisher, message.Subscriber) {
	store, err := pgstore.New(db, pgstore.Config{})
	require.NoError(t, err)
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	require.NoError(t, err)
	pub, err := outbox.NewAutoPublisher(writer, db, func(topic string, _ *message.Message) (string, error) { return topic, nil })
	require.NoError(t, err)
	sub, err := outbox.NewSubscriber(store, outbox.SubscriberConfig{
		Group: group, PollMax: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sub.Close()) }) // the suite leaves some open
	return pub, sub
}
