package quarantine_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/quarantine"
	"github.com/millrace-go/millrace/adapters/kafka"
)

func shipInOrder(db *sql.DB, router *consumer.Router, sub *kafka.Subscriber, ship message.NoPublishHandlerFunc) error {
	q, err := quarantine.New(db, quarantine.Config{})
	if err != nil {
		return err
	}
	router.Handle("shipping", "order.v1", sub, ship, consumer.WithAround(q.Middleware())) // HandleBatch likewise
	return nil
}

func shipPatiently(router *consumer.Router, sub *kafka.Subscriber, ship message.NoPublishHandlerFunc) error {
	b, err := consumer.NewBreaker(consumer.BreakerConfig{Pauser: sub})
	if err != nil {
		return err
	}
	router.Handle("patient shipping", "order.v1", sub, ship, consumer.WithBreaker(b)) // HandleBatch likewise
	return nil
}

// Handlers that keep the order of their keys through dead letters, and that wait
// for what they depend on. Nothing is connected to here.
func Example() {
	db, err1 := sql.Open("postgres", "postgres://localhost/shipping?sslmode=verify-full")
	sub, err2 := kafka.NewSubscriber("shipping", kafka.Config{Brokers: []string{"localhost:9092"}}, kafka.SubscriberConfig{Concurrency: 16})
	router, err3 := consumer.New(gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{}), consumer.Config{})
	if err := errors.Join(err1, err2, err3); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _, _ = db.Close(), sub.Close() }()
	ship := func(msg *message.Message) error { return nil }
	fmt.Println(shipInOrder(db, router, sub, ship), shipPatiently(router, sub, ship), router.Validate())
	// Output: <nil> <nil> <nil>
}

// Looking at what waits, and giving one record up.
func ExampleStore() {
	ctx := context.Background()
	db, err := sql.Open("postgres", "postgres://localhost/shipping?sslmode=verify-full")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close() }()
	store, err := quarantine.NewStore(db)
	if err != nil {
		fmt.Println(err)
		return
	}
	waiting, err := store.List(ctx, quarantine.Filter{Group: "shipping", Topic: "order.v1"})
	if err != nil {
		fmt.Println("is the database up?")
		return
	}
	for _, e := range waiting {
		if e.First {
			_, _ = store.Release(ctx, e.Group, e.Topic, quarantine.Place{Partition: e.Partition, Offset: e.Offset})
		}
	}
}
