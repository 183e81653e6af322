package house_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// startRelay carries the outbox of db to the run's Kafka until the test ends.
func startRelay(t *testing.T, db *sql.DB) {
	store, err := pgstore.New(db, pgstore.Config{})
	require.NoError(t, err)
	pub, err := kafka.NewPublisher(kafka.Config{Brokers: harness.Brokers(t)})
	require.NoError(t, err)
	relay, err := outbox.NewRelay(store, pub, outbox.RelayConfig{})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		require.NoError(t, pub.Close())
	})
}

// rename appends one message about the customer id in a transaction.
func rename(t *testing.T, db *sql.DB, topic, id string) {
	store, err := pgstore.New(db, pgstore.Config{})
	require.NoError(t, err)
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	defer tx.Rollback()
	require.NoError(t, writer.Append(ctx, tx, outbox.Message{Topic: topic, Key: id, Type: "customer.renamed"}))
	require.NoError(t, tx.Commit())
}
