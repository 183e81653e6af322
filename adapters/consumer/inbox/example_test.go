package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/lib/pq"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
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

// newShipping returns a database with a table of shipments.
func newShipping(t *lab.Example) *sql.DB {
	db := harness.NewDatabase(t).DB
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE shipment (order_id text, address text NOT NULL DEFAULT '')`); err != nil {
		t.Fatal(err)
	}
	return db
}

func count(t *lab.Example, db *sql.DB, query string) (n int) {
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// order is an order with the event id of its record, as package kafka delivers it.
func order(ctx context.Context, id string, offset int64) *message.Message {
	rec := &record.Record{Topic: "order.v1", Partition: 0, Offset: offset, Group: "shipping",
		Headers: []record.Header{{Key: outbox.HeaderEventID, Value: []byte("event-" + id)}}}
	msg := message.NewMessageWithContext(record.With(ctx, rec), "event-"+id, fmt.Appendf(nil, `{"id": %q, "address": "1 Main Street"}`, id))
	msg.Metadata.Set(outbox.HeaderEventID, "event-"+id)
	msg.Metadata.Set(outbox.HeaderAggregateID, id)
	return msg
}

// A handler with retry, inbox and dead letters: ship. The first order is published
// twice, and is shipped once.
func Example() {
	t := lab.NewExample()
	defer t.End()

	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "order.v1", "order.v1.dlt"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic("order.v1"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, id := range []string{"o-1", "o-1", "o-2"} {
		rec := &kgo.Record{Value: fmt.Appendf(nil, `{"id": %q}`, id), Headers: []kgo.RecordHeader{{Key: outbox.HeaderEventID, Value: []byte("event-" + id)}}}
		if err := client.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	db := newShipping(t)
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() { stopped <- ship(ctx, db, kafka.Config{Brokers: cluster.ListenAddrs()}) }()
	harness.Await(t, liveness, "the second order is shipped", func(ctx context.Context) error {
		var id string
		return db.QueryRowContext(ctx, `SELECT order_id FROM shipment WHERE order_id = 'o-2'`).Scan(&id)
	})
	stop()
	fmt.Println("stopped:", <-stopped)
	fmt.Println("shipments:", count(t, db, `SELECT count(*) FROM shipment`))
	// Output:
	// stopped: <nil>
	// shipments: 2
}

// The effect appends a message to the outbox. It commits with the effect.
func ExampleInbox_Handler() {
	t := lab.NewExample()
	defer t.End()

	db := newShipping(t)
	store, err := pgstore.New(db, pgstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	writer, err := outbox.NewWriter(store, outbox.WriterConfig{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := inbox.New(db, "shipping", inbox.Config{Committed: writer.Wake})
	if err != nil {
		t.Fatal(err)
	}
	handle := in.Handler(func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		id := msg.Metadata.Get(outbox.HeaderAggregateID)
		if _, err := tx.ExecContext(ctx, `INSERT INTO shipment (order_id) VALUES ($1)`, id); err != nil {
			return err
		}
		return writer.Append(ctx, tx, outbox.Message{Topic: "shipment.v1", Key: id, Type: "shipment.sent"})
	})
	for range 2 { // delivered twice
		if err := handle(order(t.Context(), "o-1", 0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range harness.ReadOutbox(t, db) {
		fmt.Println(row.Topic, row.Key)
	}
	// Output: shipment.v1 o-1
}

// One statement writes the rows of all messages of a batch.
func ExampleInbox_Bulk() {
	t := lab.NewExample()
	defer t.End()

	db := newShipping(t)
	in, err := inbox.New(db, "shipping", inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	handle := in.Bulk(func(ctx context.Context, tx *sql.Tx, msgs []*message.Message) error {
		ids := make([]string, len(msgs))
		for i, m := range msgs {
			ids[i] = m.Metadata.Get(outbox.HeaderAggregateID)
		}
		fmt.Println("new:", ids)
		_, err := tx.ExecContext(ctx, `INSERT INTO shipment (order_id) SELECT unnest($1::text[])`, pq.Array(ids))
		return err
	})
	first := []*message.Message{order(t.Context(), "o-1", 0), order(t.Context(), "o-2", 1)}
	again := []*message.Message{order(t.Context(), "o-2", 1), order(t.Context(), "o-3", 2)}
	for _, msgs := range [][]*message.Message{first, again} {
		if err := handle(record.NewBatch(t.Context(), "order.v1", 0, msgs, nil)); err != nil {
			t.Fatal(err)
		}
	}
	// Output:
	// new: [o-1 o-2]
	// new: [o-3]
}
