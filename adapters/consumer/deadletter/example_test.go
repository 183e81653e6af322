package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/kafka"
)

// Replay sends the dead letters that a filter chooses back to the group that
// failed. Preview counts them first.
func ExampleReplay() {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "order.v1", "order.v1.dlt")) // your brokers
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	writeDeadLetters(cluster.ListenAddrs())

	cfg := kafka.Config{Brokers: cluster.ListenAddrs()}
	reader, err1 := kafka.NewDeadLetters(cfg)
	publisher, err2 := kafka.NewPublisher(cfg)
	if err := errors.Join(err1, err2); err != nil {
		fmt.Println(err)
		return
	}
	defer reader.Close()
	defer publisher.Close()

	ctx := context.Background()
	choose := deadletter.Config{Filter: deadletter.Filter{Group: "shipping", ErrorPattern: regexp.MustCompile("503")}}
	res, err := deadletter.Preview(ctx, deadletter.ActionReplay, "order.v1.dlt", reader, choose)
	fmt.Println("would replay", res.Replayed, "of", res.Open, err)
	res, err = deadletter.Replay(ctx, "order.v1.dlt", reader, publisher, choose)
	fmt.Println("replayed", res.Replayed, "of", res.Open, err)
	res, err = deadletter.Replay(ctx, "order.v1.dlt", reader, publisher, choose)
	fmt.Println("replayed", res.Replayed, "of", res.Open, err)
	// Output:
	// would replay 2 of 3 <nil>
	// replayed 2 of 3 <nil>
	// replayed 0 of 1 <nil>
}

// writeDeadLetters writes three dead letters of the group shipping.
func writeDeadLetters(brokers []string) {
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for _, reason := range []string{"503 Service Unavailable", "no such order", "503 Service Unavailable"} {
		err := c.ProduceSync(context.Background(), &kgo.Record{Topic: "order.v1.dlt", Key: []byte("4711"), Headers: []kgo.RecordHeader{
			{Key: deadletter.HeaderOriginalTopic, Value: []byte("order.v1")}, {Key: deadletter.HeaderOriginalGroup, Value: []byte("shipping")},
			{Key: deadletter.HeaderExceptionMessage, Value: []byte(reason)},
		}}).FirstErr()
		if err != nil {
			fmt.Println(err)
		}
	}
}
