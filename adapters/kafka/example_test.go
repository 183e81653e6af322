package kafka_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
)

// exampleCluster stands for your brokers: it runs in the example's process.
func exampleCluster(topics ...string) (cfg kafka.Config, closeAll func()) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		log.Fatal(err)
	}
	cfg = kafka.Config{Brokers: cluster.ListenAddrs()}
	admin, err := kafka.NewAdmin(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer admin.Close()
	for _, name := range topics {
		if err := admin.EnsureTopics(context.Background(), kafka.Topic{Name: name, Partitions: 1, Replicas: 1, NoDeadLetters: true}); err != nil {
			log.Fatal(err)
		}
	}
	return cfg, cluster.Close
}

// examplePublish sends messages with keys.
func examplePublish(cfg kafka.Config, topic string, keysAndPayloads ...string) {
	pub, err := kafka.NewPublisher(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer pub.Close()
	for i := 0; i < len(keysAndPayloads); i += 2 {
		msg := message.NewMessage(uuid.NewString(), []byte(keysAndPayloads[i+1]))
		msg.Metadata.Set(outbox.MetadataKey, keysAndPayloads[i])
		if err := pub.Publish(topic, msg); err != nil {
			log.Fatal(err)
		}
	}
}

// The relay publishes through a Publisher. A service that publishes directly uses it
// like any other Watermill publisher.
func ExamplePublisher() {
	cfg, closeCluster := exampleCluster("orders.v1")
	defer closeCluster()
	pub, err := kafka.NewPublisher(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer pub.Close()

	msg := message.NewMessage(uuid.NewString(), []byte(`{"total": 12}`))
	msg.Metadata.Set(outbox.MetadataKey, "order-1") // messages of one key stay in order
	fmt.Println("published:", pub.Publish("orders.v1", msg))

	keyless := message.NewMessage("m-2", nil)
	fmt.Println(pub.Publish("orders.v1", keyless))
	// Output:
	// published: <nil>
	// publish to orders.v1: no key: message "m-2" for topic "orders.v1" has no metadata "millrace-key"
}

// Vet refuses what the broker would refuse, before it is sent.
func ExamplePublisher_Vet() {
	cfg, closeCluster := exampleCluster("orders.v1")
	defer closeCluster()
	pub, err := kafka.NewPublisher(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer pub.Close()

	ctx := context.Background()
	entry := &outbox.Entry{Message: outbox.Message{Topic: "orders.v1", Key: "order-1"}}
	fmt.Println(pub.Vet(ctx, entry))
	entry.Topic = "order.v1" // misspelt
	fmt.Println(pub.Vet(ctx, entry))
	// Output:
	// <nil>
	// unknown topic: "order.v1": kafka server: Request was for a topic or partition that does not exist on this broker
}

// A nacked message is delivered again, and the later messages of its key wait for it.
func ExampleSubscriber() {
	cfg, closeCluster := exampleCluster("orders.v1")
	defer closeCluster()
	examplePublish(cfg, "orders.v1", "order-1", "placed", "order-1", "paid")

	sub, err := kafka.NewSubscriber("billing", cfg, kafka.SubscriberConfig{NackBackOff: time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	messages, err := sub.Subscribe(context.Background(), "orders.v1")
	if err != nil {
		log.Fatal(err)
	}
	for _, ok := range []bool{false, true, true} {
		msg := <-messages
		fmt.Println(string(msg.Payload), ok)
		if ok {
			msg.Ack()
		} else {
			msg.Nack()
		}
	}
	fmt.Println(sub.Close()) // waits for handlers, commits, leaves the group
	// Output:
	// placed false
	// placed true
	// paid true
	// <nil>
}

// A batch has the messages that are there. Each is acked or nacked by itself; Ack
// acks those that were not nacked.
func ExampleSubscriber_SubscribeBatches() {
	cfg, closeCluster := exampleCluster("orders.v1")
	defer closeCluster()
	examplePublish(cfg, "orders.v1", "order-1", "placed", "order-2", "placed", "order-1", "paid")

	sub, err := kafka.NewSubscriber("reports", cfg, kafka.SubscriberConfig{MaxBatch: 100})
	if err != nil {
		log.Fatal(err)
	}
	batches, err := sub.SubscribeBatches(context.Background(), "orders.v1")
	if err != nil {
		log.Fatal(err)
	}
	for n := 0; n < 3; {
		batch := <-batches
		for _, msg := range batch.Messages {
			n++
			fmt.Println(n, string(msg.Payload))
		}
		batch.Ack()
	}
	fmt.Println(sub.Close())
	// Output:
	// 1 placed
	// 2 placed
	// 3 paid
	// <nil>
}

// Topics are created on purpose, each with its dead-letter topic, and checked before
// a service starts.
func ExampleAdmin() {
	cfg, closeCluster := exampleCluster("audit.v1")
	defer closeCluster()
	admin, err := kafka.NewAdmin(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer admin.Close()

	ctx := context.Background()
	fmt.Println(admin.EnsureTopics(ctx, kafka.Topic{Name: "orders.v1", Partitions: 4, Replicas: 1}))
	topics, err := admin.Describe(ctx, "orders.v1", "orders.v1.dlt")
	fmt.Println(topics["orders.v1"].Partitions, topics["orders.v1.dlt"].Partitions, err)

	findings, err := admin.CheckTopics(ctx, "audit.v1")
	for _, f := range findings {
		if f.Fatal {
			fmt.Printf("%s %s: %s\n", f.Topic, f.Problem, f.Advice)
		}
	}
	fmt.Println(err)
	// Output:
	// <nil>
	// 4 4 <nil>
	// audit.v1.dlt does not exist: create it with as many partitions as audit.v1
	// <nil>
}

// Lag is what a consumer group has not handled yet.
func ExampleAdmin_Lag() {
	cfg, closeCluster := exampleCluster("orders.v1")
	defer closeCluster()
	examplePublish(cfg, "orders.v1", "order-1", "placed", "order-1", "paid")
	admin, err := kafka.NewAdmin(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer admin.Close()
	lags, err := admin.Lag(context.Background(), "billing", "orders.v1")
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range lags {
		fmt.Printf("%s/%d: %d messages\n", l.Topic, l.Partition, l.Messages)
	}
	// Output:
	// orders.v1/0: 2 messages
}

// DeadLetters is what package deadletter reads dead letters with.
func ExampleDeadLetters() {
	cfg, closeCluster := exampleCluster("orders.v1.dlt")
	defer closeCluster()
	examplePublish(cfg, "orders.v1.dlt", "order-7", "{broken")
	deadLetters, err := kafka.NewDeadLetters(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer deadLetters.Close()
	err = deadletter.List(context.Background(), "orders.v1.dlt", deadLetters, deadletter.Config{}, func(m deadletter.Message) error {
		fmt.Println(string(m.Record.Key), string(m.Value))
		return nil
	})
	fmt.Println(err)
	// Output:
	// order-7 {broken
	// <nil>
}

// A configuration that is wrong, or that could lose or reorder messages, is refused
// with every reason at once.
func ExampleConfig_Validate() {
	err := kafka.Config{
		Brokers:        []string{"kafka-1"},
		RequestTimeout: -time.Second,
		SASL:           kafka.SASL{Mechanism: kafka.Plain, User: "orders", Password: "secret"},
	}.Validate()
	fmt.Println(err)
	// Output:
	// kafka config: Brokers[0]: must be host:port, is "kafka-1"
	// RequestTimeout: must be at least 0s, is -1s
	// SASL.Mechanism: must be SCRAM-SHA-512 without TLS: PLAIN without TLS sends the password in clear text
}

// Hooks report what happens; Tee combines two listeners.
func ExampleHooks_Tee() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	lost := 0
	count := kafka.Hooks{State: func(s kafka.State) {
		if !s.Reachable {
			lost++
		}
	}}
	cfg := kafka.Config{Brokers: []string{"kafka-1:9092"}, Hooks: kafka.LogHooks(logger).Tee(count)}

	cfg.Hooks.State(kafka.State{Reachable: false, Err: context.DeadlineExceeded}) // a Publisher calls it
	fmt.Println("lost contact", lost, "time(s)")
	// Output:
	// level=WARN msg="kafka cannot be reached" error="context deadline exceeded"
	// lost contact 1 time(s)
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
