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

// Hooks are called synchronously, from many goroutines; any of them may be nil.
// They must be quick and must not panic.
type Hooks struct {
	// Delivered is called once for each delivery when its outcome is certain.
	Delivered func(Delivery)
	// Retrying is called before each wait for another attempt.
	Retrying func(d Delivery, err error, wait time.Duration)
	// Panicked is called for each panic of a handler.
	Panicked func(d Delivery, err *PanicError)
	// DeadLetterFailed is called for each refused publish of a dead letter. The
	// delivery, and the order behind it, waits until the publish succeeds.
	DeadLetterFailed func(d Delivery, err error, wait time.Duration)
	// BadHeader is called for a header of ours, or of Spring Kafka, whose value
	// is not valid for its type; the value is ignored.
	BadHeader func(topic, name string)
}

// Outcome is how a delivery ended.
type Outcome string

// The outcomes.
const (
	OutcomeDone         Outcome = "done"
	OutcomeDeadLettered Outcome = "dead_lettered"
	OutcomeSkipped      Outcome = "skipped"    // replayed for another group, or see SkipDelivery
	OutcomeUnfinished   Outcome = "unfinished" // context ended, not acknowledged
)

// Delivery tells what became of one message of one handler.
type Delivery struct {
	Handler     string
	Topic       string
	Group       string
	Partition   int32 // record.PartitionByKey if the subscriber told none
	Offset      int64 // -1 if the subscriber told none
	MessageID   string
	Traceparent string // of the message, as its writer gave it
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
	first   error           // of an attempt made before, which is not to be repeated
	stop    <-chan struct{} // closed when the router stops; nil waits for ever
	blocked *atomic.Int64   // deliveries that wait for their dead letter
	hung    func(error)     // ends the router; nil if it is not ours
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

func (h *Hooks) delivered(d Delivery) {
	if h.Delivered != nil {
		h.Delivered(d)
	}
}

func (h *Hooks) retrying(d Delivery, err error, wait time.Duration) {
	if h.Retrying != nil {
		h.Retrying(d, err, wait)
	}
}

func (h *Hooks) panicked(d Delivery, err *PanicError) {
	if h.Panicked != nil {
		h.Panicked(d, err)
	}
}

func (h *Hooks) deadLetterFailed(d Delivery, err error, wait time.Duration) {
	if h.DeadLetterFailed != nil {
		h.DeadLetterFailed(d, err, wait)
	}
}

func (h *Hooks) badHeader(topic, name string) {
	if h.BadHeader != nil {
		h.BadHeader(topic, name)
	}
}
