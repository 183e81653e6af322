package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/outbox/record"
)

// runFor runs the router until n deliveries have ended, and prints how they ended.
func runFor(router *consumer.Router, ended <-chan consumer.Delivery, n int) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- router.Run(ctx) }()
	for range n {
		d := <-ended
		fmt.Println(d.MessageID, d.Outcome, d.Disposition, "after", d.Attempts)
	}
	stop()
	if err := <-done; err != nil {
		fmt.Println(err)
	}
}

func newPubSub(payloads ...string) *gochannel.GoChannel {
	pubsub := gochannel.NewGoChannel(gochannel.Config{Persistent: true, BlockPublishUntilSubscriberAck: false}, watermill.NopLogger{})
	for i, payload := range payloads {
		_ = pubsub.Publish("order.v1", message.NewMessage(fmt.Sprint(i+1), []byte(payload)))
	}
	return pubsub
}

// An error says by itself whether a retry can help.
func ExampleFatal() {
	pubsub, ended := newPubSub("{}"), make(chan consumer.Delivery)
	router, err := consumer.New(pubsub, consumer.Config{Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) { ended <- d }}})
	if err != nil {
		fmt.Println(err)
		return
	}
	router.Handle("ship", "order.v1", consumer.Draining(pubsub, time.Second), func(*message.Message) error {
		return consumer.Fatal(errors.New("the order has no address"))
	})
	runFor(router, ended, 1)
	// Output: 1 dead_lettered fatal after 1
}

// Retryable overrides what the error wraps: an invalid message may become valid
// when another one has arrived.
func ExampleRetryable() {
	invalid := fmt.Errorf("%w: unknown customer", consumer.ErrValidation)
	fmt.Println(consumer.Classify(invalid) == consumer.VerdictFatal)
	fmt.Println(consumer.Classify(consumer.Retryable(invalid)) == consumer.VerdictRetry)
	// Output:
	// true
	// true
}

// A policy for one handler: five retries, each after twice the wait of the last.
func ExampleExponential() {
	pubsub, ended := newPubSub("{}"), make(chan consumer.Delivery)
	router, err := consumer.New(pubsub, consumer.Config{Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) { ended <- d }}})
	if err != nil {
		fmt.Println(err)
		return
	}
	calls := 0
	router.Handle("ship", "order.v1", consumer.Draining(pubsub, time.Second), func(*message.Message) error {
		if calls++; calls < 4 {
			return errors.New("the carrier is busy")
		}
		return nil
	}, consumer.WithRetry(consumer.Exponential(time.Millisecond, 2, time.Second, 5, 0.2)))
	runFor(router, ended, 1)
	// Output: 1 done  after 4
}

// HandleFunc registers a function of decoded values. A message that cannot be
// decoded becomes a dead letter.
func ExampleHandleFunc() {
	pubsub, ended := newPubSub(`{broken`), make(chan consumer.Delivery)
	router, err := consumer.New(pubsub, consumer.Config{Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) { ended <- d }}})
	if err != nil {
		fmt.Println(err)
		return
	}
	consumer.HandleFunc(router, "ship", "order.v1", consumer.Draining(pubsub, time.Second), consumer.JSON[order],
		func(_ context.Context, o order) error {
			fmt.Println("ship", o.ID)
			return nil
		})
	runFor(router, ended, 1)
	// Output: 1 dead_lettered decode after 1
}

// batches is a BatchSubscriber in memory.
type batches chan *record.Batch

func (b batches) SubscribeBatches(ctx context.Context, _ string) (<-chan *record.Batch, error) {
	out := make(chan *record.Batch)
	go func() {
		defer close(out)
		for {
			select {
			case batch := <-b:
				out <- batch
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (b batches) Close() error { return nil }

// A batch handler gets many messages at once. If it fails, each message is handled
// by itself: only the poison message becomes a dead letter.
func ExampleRouter_HandleBatch() {
	in, ended := make(batches, 1), make(chan consumer.Delivery)
	router, err := consumer.New(newPubSub(), consumer.Config{
		Retry: consumer.FixedBackOff(0, 0),
		Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) { ended <- d }},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	router.HandleBatch("index", "order.v1", in, func(b *record.Batch) error {
		for _, m := range b.Messages {
			if string(m.Payload) == "poison" {
				return errors.New("cannot be indexed")
			}
		}
		return nil
	}, consumer.WithParallel(1))
	messages := []*message.Message{message.NewMessage("1", []byte("a")), message.NewMessage("2", []byte("poison")), message.NewMessage("3", []byte("b"))}
	in <- record.NewBatch(context.Background(), "order.v1", 0, messages, nil)
	runFor(router, ended, 3)
	// Unordered output:
	// 1 done  after 1
	// 2 dead_lettered exhausted after 1
	// 3 done  after 1
}

// A BatchError names the messages that failed; all others are done.
func ExampleBatchError() {
	in, ended := make(batches, 1), make(chan consumer.Delivery)
	router, err := consumer.New(newPubSub(), consumer.Config{Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) { ended <- d }}})
	if err != nil {
		fmt.Println(err)
		return
	}
	consumer.HandleBatchFunc(router, "index", "order.v1", in, consumer.JSON[order], func(_ context.Context, orders []order) error {
		failed := map[int]error{}
		for i, o := range orders {
			if o.ID == "" {
				failed[i] = consumer.Fatal(errors.New("an order without an id"))
			}
		}
		if len(failed) > 0 {
			return &consumer.BatchError{Failed: failed}
		}
		return nil
	})
	messages := []*message.Message{message.NewMessage("1", []byte(`{"ID":"o-1"}`)), message.NewMessage("2", []byte(`{}`))}
	in <- record.NewBatch(context.Background(), "order.v1", 0, messages, nil)
	runFor(router, ended, 2)
	// Unordered output:
	// 1 done  after 1
	// 2 dead_lettered fatal after 1
}

// An unavailable dependency costs no dead letter: the partition is paused, and the
// message is tried again until the dependency is back.
func ExampleIsUnavailable() {
	pubsub, ended := newPubSub("{}"), make(chan consumer.Delivery)
	router, err := consumer.New(pubsub, consumer.Config{ProbeEvery: time.Millisecond, Hooks: consumer.Hooks{
		Delivered: func(d consumer.Delivery) { ended <- d },
		Paused:    func(b consumer.BreakerStatus) { fmt.Println("paused:", b.Err) },
		Resumed:   func(consumer.BreakerStatus) { fmt.Println("resumed") },
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	calls := 0
	router.Handle("ship", "order.v1", consumer.Draining(pubsub, time.Second), func(*message.Message) error {
		if calls++; calls < 10 { // far more often than the policy retries
			return fmt.Errorf("carrier: %w", consumer.ErrUnavailable)
		}
		return nil
	})
	runFor(router, ended, 1)
	// Output:
	// paused: carrier: dependency unavailable
	// resumed
	// 1 done  after 1
}

// A breaker pauses a partition when too many of its messages fail, whatever the
// reason is.
func ExampleNewBreaker() {
	pubsub, ended := newPubSub("{}"), make(chan consumer.Delivery)
	router, err1 := consumer.New(pubsub, consumer.Config{Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) { ended <- d }}})
	breaker, err2 := consumer.NewBreaker(consumer.BreakerConfig{InARow: 1, ProbeEvery: time.Millisecond, Hooks: consumer.Hooks{
		Paused: func(b consumer.BreakerStatus) { fmt.Println("paused:", b.Err) },
	}})
	if err := errors.Join(err1, err2); err != nil {
		fmt.Println(err)
		return
	}
	calls := 0
	router.Handle("ship", "order.v1", consumer.Draining(pubsub, time.Second), func(*message.Message) error {
		if calls++; calls < 10 {
			return errors.New("the carrier answers nonsense")
		}
		return nil
	}, consumer.WithBreaker(breaker))
	runFor(router, ended, 1)
	// Output:
	// paused: the carrier answers nonsense
	// 1 done  after 1
}

// Middlewares is the whole chain, dead letters included, for a router of
// Watermill's own.
func ExampleMiddlewares() {
	pubsub := newPubSub("{}")
	dead, err1 := pubsub.Subscribe(context.Background(), "order.v1.dlt")
	router, err2 := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	chain, err3 := consumer.Middlewares("ship", "order.v1", pubsub, consumer.Config{})
	if err := errors.Join(err1, err2, err3); err != nil {
		fmt.Println(err)
		return
	}
	router.AddConsumerHandler("ship", "order.v1", pubsub, func(*message.Message) error {
		return consumer.Fatal(errors.New("the order has no address"))
	}).AddMiddleware(chain...)
	go func() { _ = router.Run(context.Background()) }()
	m := <-dead
	fmt.Println(m.Metadata["kafka_dlt-exception-message"])
	m.Ack()
	fmt.Println(router.Close())
	// Output:
	// the order has no address
	// <nil>
}

// LogHooks logs every dead letter with its cause; Tee adds it to hooks of your own.
func ExampleLogHooks() {
	pubsub, ended := newPubSub("{}"), make(chan consumer.Delivery)
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "partition" || a.Key == "offset" {
			return slog.Attr{}
		}
		return a
	}}))
	own := consumer.Hooks{Delivered: func(d consumer.Delivery) { ended <- d }}
	router, err := consumer.New(pubsub, consumer.Config{Hooks: consumer.LogHooks(log).Tee(own)})
	if err != nil {
		fmt.Println(err)
		return
	}
	router.Handle("ship", "order.v1", consumer.Draining(pubsub, time.Second), func(*message.Message) error {
		return consumer.Fatal(errors.New("no address"))
	})
	runFor(router, ended, 1)
	// Output:
	// level=WARN msg="message became a dead letter" handler=ship topic=order.v1 group=ship message=1 attempts=1 disposition=fatal error="no address"
	// 1 dead_lettered fatal after 1
}
