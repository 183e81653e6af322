package replay_test

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/outbox/replay"
)

// Count first, then send: the messages of one aggregate to a topic of their own.
func ExampleReplayer() {
	history, publisher := newShelf(), &sink{} // pgstore.Store.History, kafka.NewPublisher
	r, err := replay.New(history, publisher, replay.Config{
		Select:  replay.Selection{AggregateType: "order", AggregateID: "o1"},
		ToTopic: "rebuild.v1",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := r.Plan(context.Background())
	fmt.Println("would send", plan.Messages, err)
	done, err := r.Run(context.Background())
	fmt.Println("sent", done.Messages, len(publisher.got), publisher.topic[0], err)
	// Output:
	// would send 2 <nil>
	// sent 2 2 rebuild.v1 <nil>
}
