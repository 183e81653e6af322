package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/lib/pq"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
)

// Order is the payload of topic order.v1.
type Order struct{ ID, Address string }

func ship(ctx context.Context, db *sql.DB, conf kafka.Config) error {
	dead, err1 := kafka.NewPublisher(conf)
	sub, err2 := kafka.NewSubscriber("shipping", conf, kafka.SubscriberConfig{Concurrency: 4})
	in, err3 := inbox.New(db, "shipping", inbox.Config{})
	router, err4 := consumer.New(dead, consumer.Config{})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	defer dead.Close()
	router.HandleBatch("shipping", "order.v1", sub, in.Batch(inbox.Typed(consumer.JSON[Order],
		func(ctx context.Context, tx *sql.Tx, o Order) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO shipment (order_id, address) VALUES ($1, $2)`, o.ID, o.Address)
			return err
		})), consumer.WithRetry(consumer.FixedBackOff(500*time.Millisecond, 3)))
	return router.Run(ctx)
}

// A handler with retry, inbox and dead letters: ship. It needs Kafka, with the
// topics order.v1 and order.v1.dlt, and Postgres with the migrations of package sql.
func Example() {
	_ = ship // func ship(ctx context.Context, db *sql.DB, conf kafka.Config) error
}

// A follow-up message rides in the transaction of the effect.
func ExampleInbox_Handler() {
	_ = func(db *sql.DB, writer *outbox.Writer) (message.NoPublishHandlerFunc, error) {
		in, err := inbox.New(db, "shipping", inbox.Config{Committed: writer.Wake})
		if err != nil {
			return nil, err
		}
		return in.Handler(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
			if _, err := tx.ExecContext(ctx, `UPDATE shipment SET sent = true WHERE order_id = $1`, msg.Metadata.Get("aggregate-id")); err != nil {
				return err
			}
			return writer.Append(ctx, tx, outbox.Message{Topic: "shipment.v1", Key: msg.Metadata.Get("aggregate-id"), Type: "shipment.sent"})
		}), nil
	}
}

// One statement for all messages of a batch.
func ExampleInbox_Bulk() {
	_ = func(in *inbox.Inbox) consumer.BatchFunc {
		return in.Bulk(func(ctx context.Context, tx *sql.Tx, msgs []*message.Message) error {
			ids := make([]string, len(msgs))
			for i, m := range msgs {
				ids[i] = m.Metadata.Get("aggregate-id")
			}
			_, err := tx.ExecContext(ctx, `INSERT INTO shipment (order_id) SELECT unnest($1::text[])`, pq.Array(ids))
			return err
		})
	}
}
