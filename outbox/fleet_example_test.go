package outbox_test

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// A fleet serves many outboxes in one process. Each has a log and a publisher of
// its own; Wake of an outbox's relay goes to the writers of that outbox.
func ExampleFleet() {
	orders, billing := outboxtest.NewMemoryLog(nil), outboxtest.NewMemoryLog(nil)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	tx, err := billing.Begin(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := tx.Append(ctx, outbox.Message{Topic: "invoice.v1", Key: "i-1", Type: "invoice.sent"}); err != nil {
		fmt.Println(err)
		return
	}
	if err := tx.Commit(); err != nil {
		fmt.Println(err)
		return
	}
	pub := printer{stopAfter: "invoice.sent", stop: stop}
	fleet, err := outbox.NewFleet([]outbox.FleetOutbox{
		{Name: "orders", Log: orders, Publisher: pub},
		{Name: "billing", Log: billing, Publisher: pub},
	}, outbox.FleetConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fleet.Relay("billing").Wake()
	fmt.Println("stopped:", fleet.Run(ctx))
	// Output:
	// invoice.v1 i-1 invoice.sent
	// stopped: <nil>
}
