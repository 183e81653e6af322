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
	"github.com/millrace-go/millrace/outbox/record"
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

// List shows the dead letters that a filter chooses, and Summarize counts them.
func ExampleList() {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "order.v1", "order.v1.dlt")) // your brokers
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	writeDeadLetters(cluster.ListenAddrs())
	reader, err := kafka.NewDeadLetters(kafka.Config{Brokers: cluster.ListenAddrs()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reader.Close()

	ctx, open := context.Background(), deadletter.Config{Filter: deadletter.Filter{States: []deadletter.State{deadletter.StateOpen}}}
	err = deadletter.List(ctx, "order.v1.dlt", reader, open, func(m deadletter.Message) error {
		fmt.Println(m.Record.Offset, m.OriginalTopic, m.Group, m.Error)
		return nil
	})
	fmt.Println(err)
	stats, err := deadletter.Summarize(ctx, "order.v1.dlt", reader, open)
	fmt.Println(stats.Total, "of", stats.Keys, "key", err)
	// Output:
	// 0 order.v1 shipping 503 Service Unavailable
	// 1 order.v1 shipping no such order
	// 2 order.v1 shipping 503 Service Unavailable
	// <nil>
	// 3 of 1 key <nil>
}

// Parse reads a dead letter that a consumer of your own received.
func ExampleParse() {
	rec := &record.Record{Topic: "order.v1.dlt", Offset: 7, Key: []byte("4711"), Headers: []record.Header{
		{Key: deadletter.HeaderOriginalTopic, Value: []byte("order.v1")}, {Key: deadletter.HeaderDisposition, Value: []byte("exhausted")},
		{Key: deadletter.HeaderTargetGroup, Value: []byte("shipping")}, {Key: deadletter.HeaderAttempts, Value: []byte("4")},
	}}
	m, bad := deadletter.Parse(rec, []byte(`{"ID":"o-1"}`))
	fmt.Println(m.OriginalTopic, m.Group, m.Disposition, m.Attempts, bad)
	// Output: order.v1 shipping exhausted 4 []
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
