package kafka_test

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox"
)

// A publisher serves the relay by itself; a service that publishes on its own
// uses it as any other Watermill publisher.
func ExamplePublisher() {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1)) // your brokers
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	cfg := kafka.Config{Brokers: cluster.ListenAddrs()}

	admin, err := kafka.NewAdmin(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer admin.Close()
	ctx := context.Background()
	if err := admin.EnsureTopics(ctx, kafka.Topic{Name: "notification.v1", Partitions: 4, Replicas: 1}); err != nil {
		fmt.Println(err)
		return
	}

	pub, err := kafka.NewPublisher(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pub.Close()
	e := outbox.Entry{Message: outbox.Message{ID: uuid.New(), Topic: "notification.v1", Key: "recipient-1", Type: "notification.requested", Payload: []byte("{}")}}
	fmt.Println(pub.Publish("notification.v1", outbox.ToWatermill(ctx, &e)))

	e.Topic = "notifications.v1" // misspelt
	fmt.Println(pub.Vet(ctx, &e))
	// Output:
	// <nil>
	// unknown topic: "notifications.v1": kafka server: Request was for a topic or partition that does not exist on this broker
}
