package outboxtest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// A log in memory, for tests of what is built on the outbox.
func ExampleMemoryLog() {
	ctx := context.Background()
	log := outboxtest.NewMemoryLog(nil)
	kept, err := log.Begin(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	dropped, err := log.Begin(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(dropped.Append(ctx, outbox.Message{Topic: "orders", Key: "o-1"}), dropped.Rollback())
	fmt.Println(kept.Append(ctx, outbox.Message{Topic: "orders", Key: "o-2"}), kept.Commit())

	session, err := log.Acquire(ctx, "relay", "me", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	batch, err := session.Read(ctx, 100, 1<<20)
	fmt.Println(len(batch.Entries), batch.Entries[0].Key, batch.Entries[0].Position, err)
	// Output:
	// <nil> <nil>
	// <nil> <nil>
	// 1 o-2 2 <nil>
}
