package record_test

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/record"
)

// A handler finds the exact record of its message, with headers that repeat.
func ExampleFrom() {
	r := &record.Record{Topic: "orders", Partition: 2, Offset: 41, Key: []byte("o-1"), Headers: []record.Header{
		{Key: "tag", Value: []byte("new")}, {Key: "tag", Value: []byte("paid")},
	}}
	m := message.NewMessage("1", nil)
	m.SetContext(record.With(context.Background(), r)) // the subscriber does this

	if r, ok := record.From(m.Context()); ok {
		fmt.Printf("%s/%d@%d key %s\n", r.Topic, r.Partition, r.Offset, r.Key)
		for _, h := range r.Headers {
			fmt.Printf("%s=%s\n", h.Key, h.Value)
		}
	}
	// Output:
	// orders/2@41 key o-1
	// tag=new
	// tag=paid
}

// A batch handler answers each message, or all that are left at once.
func ExampleBatch() {
	first, second := message.NewMessage("1", nil), message.NewMessage("2", nil)
	b := record.NewBatch(context.Background(), "orders", 2, []*message.Message{first, second}, nil)
	first.Nack()
	b.Ack() // those that were not nacked
	<-first.Nacked()
	<-second.Acked()
	fmt.Println("first is delivered again, second is done")
	// Output: first is delivered again, second is done
}
