package consumer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/millrace-go/millrace/adapters/consumer"
)

func Example() {
	pubsub := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, watermill.NopLogger{})
	_ = pubsub.Publish("order.v1",
		message.NewMessage("1", []byte(`{"ID":"o-1"}`)),
		message.NewMessage("2", []byte(`{broken`)))

	finished := make(chan consumer.Delivery)
	router, err := consumer.New(pubsub, consumer.Config{
		Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) { finished <- d }},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	router.Handle("ship", "order.v1", consumer.Draining(pubsub, time.Second),
		consumer.Typed(consumer.JSON[order], func(_ context.Context, o order) error {
			fmt.Println("ship", o.ID)
			return nil
		}),
		consumer.WithRetry(consumer.Exponential(100*time.Millisecond, 2, 5*time.Second, 5, 0.2)),
		consumer.WithTimeout(5*time.Second))

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- router.Run(ctx) }()
	for range 2 {
		if d := <-finished; d.Outcome == consumer.OutcomeDeadLettered {
			fmt.Println("dead letter:", d.Disposition)
		}
	}
	stop()
	fmt.Println("stopped:", <-done)
	// Unordered output:
	// ship o-1
	// dead letter: decode
	// stopped: <nil>
}
