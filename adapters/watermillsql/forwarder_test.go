package watermillsql_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
)

// TestForwarder_OfWatermillWorksOverTheOutbox: forwarder.NewPublisher writes its
// envelopes through outbox.NewPublisher in a transaction, and forwarder.Forwarder
// reads them from outbox.NewSubscriber and publishes to Kafka, unmodified.
func TestForwarder_OfWatermillWorksOverTheOutbox(t *testing.T) {
	t.Parallel()
	db := harness.NewDatabase(t).DB
	brokers, destination := harness.Brokers(t), harness.Topic(t, 2)
	const keys, each = 4, 10
	for n := range each {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		// The envelope itself has no metadata: one key keeps the forwarder's topic in order.
		ours, err := outbox.NewPublisher(newWriter(t, db), tx, topicAsKey)
		require.NoError(t, err)
		pub := forwarder.NewPublisher(ours, forwarder.PublisherConfig{ForwarderTopic: table})
		for k := range keys {
			require.NoError(t, pub.Publish(destination, keyed("k"+strconv.Itoa(k), strconv.Itoa(n))))
		}
		if n == each-1 {
			require.NoError(t, tx.Rollback())
			continue
		}
		require.NoError(t, tx.Commit())
	}

	store, err := pgstore.New(db, pgstore.Config{})
	require.NoError(t, err)
	sub, err := outbox.NewSubscriber(store, outbox.SubscriberConfig{})
	require.NoError(t, err)
	out, err := kafka.NewPublisher(kafka.Config{Brokers: brokers})
	require.NoError(t, err)
	defer func() { require.NoError(t, out.Close()) }()
	router, err := message.NewRouter(message.RouterConfig{}, nil)
	require.NoError(t, err)
	fwd, err := forwarder.NewForwarder(sub, out, nil, forwarder.Config{ForwarderTopic: table, Router: router})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- fwd.Run(t.Context()) }()
	var records []harness.Record
	require.Eventually(t, func() bool {
		records = harness.ReadTopic(t, brokers, destination)
		return len(records) >= keys*(each-1)
	}, 2*time.Minute, 100*time.Millisecond)
	require.NoError(t, fwd.Close())
	require.NoError(t, <-done)

	require.Len(t, records, keys*(each-1), "none twice, none of the rolled-back transaction")
	next := map[string]int{}
	for _, r := range records {
		require.Equal(t, strconv.Itoa(next[string(r.Key)]), string(r.Value), "order of %s", r.Key)
		next[string(r.Key)]++
		require.NotEmpty(t, r.Header(outbox.HeaderEventID))
		require.Empty(t, r.Header(outbox.MetadataKey), "the key is the record's, and no header")
	}
	require.Len(t, next, keys)
}
