package consumer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/internal/delivery"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// Outcome is how a delivery ended.
type Outcome string

// The outcomes.
const (
	OutcomeDone         Outcome = "done"
	OutcomeDeadLettered Outcome = "dead_lettered"
	OutcomeSkipped      Outcome = "skipped"    // replayed for another group, or a copy that package quarantine knows
	OutcomeUnfinished   Outcome = "unfinished" // its context ended; not acknowledged
)

// Delivery is one message that was given to one handler.
type Delivery struct {
	Handler     string
	Topic       string
	Group       string
	Partition   int32 // record.PartitionByKey if the subscriber does not say
	Offset      int64 // -1 if the subscriber does not say
	MessageID   string
	Traceparent string // of the message, as its writer set it
	Attempts    int    // calls of the handler so far
	Outcome     Outcome
	Disposition deadletter.Disposition // of a dead letter
	Err         error                  // last error, nil when done or skipped
	Duration    time.Duration
}

// state is what the middlewares of one delivery share.
type state struct {
	Delivery
	began   time.Time
	first   error           // of an attempt made with a batch, which is not to be repeated
	stop    <-chan struct{} // closed when the router stops; nil if it does not say
	blocked *atomic.Int64   // deliveries that wait for their dead letter
	giveUp  func(error)     // ends the router; nil if it is not ours
	held    *heldDelivery   // by the breaker of a handler that has none of its own
}

// Stopping implements delivery.Delivery.
func (d *state) Stopping() <-chan struct{} { return d.stop }

// Skip implements delivery.Delivery.
func (d *state) Skip() { d.Outcome = OutcomeSkipped }

func withDelivery(ctx context.Context, d *state) context.Context { return delivery.With(ctx, d) }

// deliveryFrom returns the state of the delivery, or a blank one when a
// middleware runs on a router that is not ours.
func deliveryFrom(ctx context.Context) *state {
	if d, ok := delivery.From(ctx).(*state); ok {
		return d
	}
	return &state{blocked: new(atomic.Int64)}
}

func describe(handler, topic string, msg *message.Message) Delivery {
	d := Delivery{Handler: handler, Topic: topic, Partition: record.PartitionByKey, Offset: -1, MessageID: msg.UUID}
	d.Traceparent = msg.Metadata.Get(outbox.HeaderTraceparent)
	if r, ok := record.From(msg.Context()); ok {
		d.Topic, d.Group, d.Partition, d.Offset = r.Topic, r.Group, r.Partition, r.Offset
	}
	return d
}
