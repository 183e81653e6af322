package consumer

import (
	"context"
	"log/slog"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/hook"
)

// Hooks are called synchronously, from many goroutines; any of them may be nil.
// They must be quick and must not panic.
type Hooks struct {
	// Delivered is called once for each delivery when its outcome is certain.
	Delivered func(Delivery)
	// Retrying is called before each wait for another attempt.
	Retrying func(RetryInfo)
	// Panicked is called for each panic of a handler.
	Panicked func(d Delivery, err *PanicError)
	// DeadLetterFailed is called each time a dead letter could not be published. The
	// delivery, and the order behind it, waits until that succeeds.
	DeadLetterFailed func(RetryInfo)
	// BadHeader is called for a header of ours, or of Spring Kafka, whose value is
	// not valid for its type; the value is ignored.
	BadHeader func(topic, name string)
	// Paused is called when a breaker opens and pauses a partition, Probed for each
	// failed attempt while it is open, and Resumed when it closes. When no delivery
	// is left to be tried, for example because the partition moved to another
	// member, Resumed is called too, and Paused again when the next delivery is held.
	Paused, Probed, Resumed func(BreakerStatus)
}

// RetryInfo says what failed and when it will be tried again.
type RetryInfo struct {
	Delivery Delivery
	Err      error
	Wait     time.Duration
}

func (h Hooks) withDefaults() Hooks {
	hook.Fill1(&h.Delivered)
	hook.Fill1(&h.Retrying)
	hook.Fill2(&h.Panicked)
	hook.Fill1(&h.DeadLetterFailed)
	hook.Fill2(&h.BadHeader)
	hook.Fill1(&h.Paused)
	hook.Fill1(&h.Probed)
	hook.Fill1(&h.Resumed)
	return h
}

// Tee returns hooks that call those of h and then those of other.
func (h Hooks) Tee(other Hooks) Hooks {
	return Hooks{
		Delivered:        hook.Tee1(h.Delivered, other.Delivered),
		Retrying:         hook.Tee1(h.Retrying, other.Retrying),
		Panicked:         hook.Tee2(h.Panicked, other.Panicked),
		DeadLetterFailed: hook.Tee1(h.DeadLetterFailed, other.DeadLetterFailed),
		BadHeader:        hook.Tee2(h.BadHeader, other.BadHeader),
		Paused:           hook.Tee1(h.Paused, other.Paused),
		Probed:           hook.Tee1(h.Probed, other.Probed),
		Resumed:          hook.Tee1(h.Resumed, other.Resumed),
	}
}

// LogHooks logs every dead letter with its cause, every retry, panic and refused
// dead letter, and every pause and resumption of a partition. Deliveries that
// succeed are not logged.
func LogHooks(log *slog.Logger) Hooks {
	return Hooks{
		Delivered: func(d Delivery) {
			if d.Outcome == OutcomeDeadLettered {
				log.LogAttrs(context.Background(), slog.LevelWarn, "message became a dead letter",
					append(deliveryAttrs(d), slog.String("disposition", string(d.Disposition)), slog.Any("error", d.Err))...)
			}
		},
		Retrying: func(r RetryInfo) {
			log.LogAttrs(context.Background(), slog.LevelWarn, "handler failed and is called again", retryAttrs(r)...)
		},
		Panicked: func(d Delivery, err *PanicError) {
			log.LogAttrs(context.Background(), slog.LevelError, "handler panicked",
				append(deliveryAttrs(d), slog.Any("error", err), slog.String("stack", string(err.Stack)))...)
		},
		DeadLetterFailed: func(r RetryInfo) {
			log.LogAttrs(context.Background(), slog.LevelError, "dead letter could not be published", retryAttrs(r)...)
		},
		BadHeader: func(topic, name string) {
			log.Warn("header is not valid and is ignored", "topic", topic, "header", name)
		},
		Paused: func(b BreakerStatus) {
			log.LogAttrs(context.Background(), slog.LevelWarn, "partition paused: the handler's dependency fails",
				append(breakerAttrs(b), slog.Any("error", b.Err))...)
		},
		Resumed: func(b BreakerStatus) {
			log.LogAttrs(context.Background(), slog.LevelInfo, "partition resumed", breakerAttrs(b)...)
		},
	}
}

func deliveryAttrs(d Delivery) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("handler", d.Handler), slog.String("topic", d.Topic), slog.String("group", d.Group), slog.Int("partition", int(d.Partition)),
		slog.Int64("offset", d.Offset), slog.String("message", d.MessageID), slog.Int("attempts", d.Attempts),
	}
	if d.Traceparent != "" {
		attrs = append(attrs, slog.String("traceparent", d.Traceparent))
	}
	return attrs
}

func retryAttrs(r RetryInfo) []slog.Attr {
	return append(deliveryAttrs(r.Delivery), slog.Any("error", r.Err), slog.Duration("again_in", r.Wait))
}

func breakerAttrs(b BreakerStatus) []slog.Attr {
	return []slog.Attr{
		slog.String("handler", b.Handler), slog.String("topic", b.Topic), slog.String("group", b.Group), slog.Int("partition", int(b.Partition)),
		slog.Int("held", b.Held),
	}
}
