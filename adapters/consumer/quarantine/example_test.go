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
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

func shipInOrder(db *sql.DB, router *consumer.Router, sub message.Subscriber, ship message.NoPublishHandlerFunc) error {
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

// orders is a subscriber that delivers the records of one partition, one at a time, as
// package kafka's does.
type orders struct {
	customers []string      // the keys of the records
	handled   chan struct{} // asks for the next one
}

func (o *orders) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for offset, key := range o.customers {
			rec := &record.Record{Topic: topic, Partition: 0, Offset: int64(offset), Group: "shipping", Key: []byte(key)}
			out <- message.NewMessageWithContext(record.With(context.Background(), rec), fmt.Sprint(offset), nil)
			<-o.handled
		}
		<-ctx.Done()
	}()
	return out, nil
}

func (o *orders) Close() error { return nil }

// handle handles an order of each customer, and prints what became of it. The order at
// offset 0 cannot be shipped.
func handle(ctx context.Context, db *sql.DB, customers ...string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sub := &orders{customers, make(chan struct{})}
	deadLetters := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	router, err := consumer.New(deadLetters, consumer.Config{Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) {
		fmt.Println(customers[d.Offset], d.Offset, d.Outcome, d.Disposition)
		sub.handled <- struct{}{}
		if int(d.Offset) == len(customers)-1 {
			stop()
		}
	}}})
	if err != nil {
		return err
	}
	ship := func(msg *message.Message) error {
		if msg.UUID == "0" {
			return consumer.Fatal(errors.New("the order has no address"))
		}
		return nil
	}
	if err := shipInOrder(db, router, sub, ship); err != nil {
		return err
	}
	return router.Run(ctx)
}

// The orders of a customer are handled in their order, also when one of them becomes
// a dead letter. The orders of other customers do not wait.
func Example() {
	t := lab.NewExample()
	defer t.End()

	if err := handle(t.Context(), harness.NewDatabase(t).DB, "ann", "ann", "bob"); err != nil {
		t.Fatal(err)
	}
	// Output:
	// ann 0 dead_lettered fatal
	// ann 1 dead_lettered quarantined
	// bob 2 done
}

// A handler that waits for what it depends on.
func Example_breaker() {
	sub, err1 := kafka.NewSubscriber("shipping", kafka.Config{Brokers: []string{"localhost:9092"}}, kafka.SubscriberConfig{Concurrency: 16})
	router, err2 := consumer.New(gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{}), consumer.Config{})
	if err := errors.Join(err1, err2); err != nil {
		fmt.Println(err)
		return
	}
	defer sub.Close()
	err := shipPatiently(router, sub, func(*message.Message) error { return nil })
	fmt.Println(err, router.Validate()) // nothing is connected to yet
	// Output: <nil> <nil>
}

// An order that cannot be shipped is given up. The next one of its customer may then
// be replayed.
func ExampleQuarantine_Release() {
	t := lab.NewExample()
	defer t.End()

	db := harness.NewDatabase(t).DB
	if err := handle(t.Context(), db, "ann", "ann"); err != nil {
		t.Fatal(err)
	}
	q, err := quarantine.New(db, quarantine.Config{}) // in any process
	if err != nil {
		t.Fatal(err)
	}
	all := quarantine.Filter{Group: "shipping", Topic: "order.v1"}
	list := func() {
		waiting, err := q.List(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range waiting {
			fmt.Printf("waiting: %s %d, failures %d, first %t\n", e.Key, e.Offset, e.Failures, e.First)
		}
	}
	list()
	first := all
	first.Partitions, first.Offsets = []int32{0}, []int64{0}
	n, err := q.Release(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("released:", n)
	list()
	// Output:
	// ann 0 dead_lettered fatal
	// ann 1 dead_lettered quarantined
	// waiting: ann 0, failures 1, first true
	// waiting: ann 1, failures 0, first false
	// released: 1
	// waiting: ann 1, failures 0, first true
}
