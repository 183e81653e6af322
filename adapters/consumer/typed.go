package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/internal/missing"
	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/outbox/record"
)

// Decode calls decode. Its error counts as ErrDecode unless it carries a verdict or
// a sentinel of its own.
func Decode[T any](decode func(*message.Message) (T, error), msg *message.Message) (T, error) {
	v, err := decode(msg)
	if err != nil {
		return v, decodeError(err)
	}
	return v, nil
}

// Typed makes a handler of a decoder and a function of the decoded value, so that
// decoding happens inside the chain: a message that cannot be decoded becomes a
// dead letter with its original bytes. See Decode for the decoder's errors. With a
// nil argument the handler fails forevery message, and a Router refuses it.
func Typed[T any](decode func(*message.Message) (T, error), handle func(context.Context, T) error) message.NoPublishHandlerFunc {
	if decode == nil || handle == nil {
		return missing.Handler
	}
	return func(msg *message.Message) error {
		v, err := Decode(decode, msg)
		if err != nil {
			return err
		}
		return handle(msg.Context(), v)
	}
}

// HandleFunc registers a function of decoded values: Router.Handle and Typed in one
// call.
func HandleFunc[T any](r *Router, name, topic string, sub message.Subscriber,
	decode func(*message.Message) (T, error), handle func(context.Context, T) error, opts ...Option,
) {
	r.Handle(name, topic, sub, Typed(decode, handle), opts...)
}

// HandleBatchFunc registers a function of many decoded values: Router.HandleBatch
// and TypedBatch in one call.
func HandleBatchFunc[T any](r *Router, name, topic string, sub BatchSubscriber,
	decode func(*message.Message) (T, error), handle func(context.Context, []T) error, opts ...Option,
) {
	r.HandleBatch(name, topic, sub, TypedBatch(decode, handle), opts...)
}

// TypedBatch makes a BatchFunc of a decoder and a function of the decoded values. A
// message that cannot be decoded, and those of its key that follow it, are not given
// to handle: each is decoded again by itself, and the first becomes a dead letter.
// handle may return a BatchError of the values that it failed with. Of nil arguments
// see Typed.
func TypedBatch[T any](decode func(*message.Message) (T, error), handle func(context.Context, []T) error) BatchFunc {
	if decode == nil || handle == nil {
		return missing.Batch
	}
	return func(b *record.Batch) error {
		values := make([]T, 0, len(b.Messages))
		places := make([]int, 0, len(b.Messages)) // of the values in the batch
		failed := map[int]error{}
		keys := map[string]bool{} // of messages in failed
		for i, msg := range b.Messages {
			key, keyed := records.Key(msg)
			if keyed && keys[key] {
				failed[i] = nil // behind a failed message: not handled yet
				continue
			}
			v, err := Decode(decode, msg)
			if err != nil {
				failed[i] = err
				if keyed {
					keys[key] = true
				}
				continue
			}
			values, places = append(values, v), append(places, i)
		}
		if err := handleValues(b.Context(), values, places, handle, failed); err != nil {
			return err
		}
		if len(failed) > 0 {
			return &BatchError{Failed: failed}
		}
		return nil
	}
}

// handleValues calls handle, if there are values, and adds the failures that it
// names to failed.
func handleValues[T any](ctx context.Context, values []T, places []int, handle func(context.Context, []T) error, failed map[int]error) error {
	if len(values) == 0 {
		return nil
	}
	err := handle(ctx, values)
	partly, ok := errors.AsType[*BatchError](err)
	if !ok || len(partly.Failed) == 0 {
		return err
	}
	for i, why := range partly.Failed {
		if i < 0 || i >= len(places) {
			return err
		}
		failed[places[i]] = why
	}
	return nil
}

// JSON decodes a JSON payload. An empty payload, for example a tombstone, is
// an error.
func JSON[T any](msg *message.Message) (T, error) {
	var v T
	err := json.Unmarshal(msg.Payload, &v)
	return v, err
}

func decodeError(err error) error {
	if _, marked := errors.AsType[*verdictError](err); marked || isContentError(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDecode, err)
}
