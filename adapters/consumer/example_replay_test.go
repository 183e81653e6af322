package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
)

// A replay sends the dead letters that a filter chooses back to the group that
// failed. Without Execute it only counts.
func ExampleReplay() {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "order.v1", "order.v1.dlt")) // your brokers
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	letDie(cluster.ListenAddrs())

	for _, execute := range []bool{false, true, true} {
		res, err := repair(context.Background(), kafka.Config{Brokers: cluster.ListenAddrs()}, execute)
		fmt.Println(res.Replayed, "of", res.Letters, err)
	}
	// Output:
	// 2 of 3 <nil>
	// 2 of 3 <nil>
	// 0 of 1 <nil>
}

// repair sends back what the group shipping gave up because of a dependency.
func repair(ctx context.Context, conf kafka.Config, execute bool) (res consumer.ReplayResult, err error) {
	letters, err1 := kafka.NewDeadLetters(conf)
	pub, err2 := kafka.NewPublisher(conf)
	if err := errors.Join(err1, err2); err != nil {
		return res, err
	}
	defer letters.Close()
	defer pub.Close()
	return consumer.Replay(ctx, consumer.ReplayConfig{
		Topic: "order.v1.dlt", Reader: letters, Publisher: pub, Execute: execute,
		Filter: consumer.Filter{Group: "shipping", ErrorPattern: regexp.MustCompile("503")},
	})
}

// letDie writes three dead letters of the group shipping.
func letDie(brokers []string) {
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for _, reason := range []string{"503 Service Unavailable", "no such order", "503 Service Unavailable"} {
		err := c.ProduceSync(context.Background(), &kgo.Record{Topic: "order.v1.dlt", Key: []byte("4711"), Headers: []kgo.RecordHeader{
			{Key: consumer.HeaderOriginalTopic, Value: []byte("order.v1")}, {Key: consumer.HeaderOriginalGroup, Value: []byte("shipping")},
			{Key: consumer.HeaderExceptionMessage, Value: []byte(reason)},
		}}).FirstErr()
		if err != nil {
			fmt.Println(err)
		}
	}
}
