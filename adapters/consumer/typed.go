package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// Typed makes a handler of a decoder and a function of the decoded value, so that
// decoding happens inside the chain: a message that cannot be decoded becomes a
// dead letter with its original bytes. A decoder's error counts as ErrDecode
// unless it carries a verdict or a sentinel of its own.
func Typed[T any](decode func(*message.Message) (T, error), handle func(context.Context, T) error) message.NoPublishHandlerFunc {
	if decode == nil || handle == nil {
		return nil // Router.Handle reports it
	}
	return func(msg *message.Message) error {
		v, err := decode(msg)
		if err != nil {
			return decodeError(err)
		}
		return handle(msg.Context(), v)
	}
}

// Handle registers a function of decoded values: Router.Handle and Typed in one
// call.
func Handle[T any](r *Router, name, topic string, sub message.Subscriber,
	decode func(*message.Message) (T, error), handle func(context.Context, T) error, opts ...Option,
) {
	r.Handle(name, topic, sub, Typed(decode, handle), opts...)
}

// TypedBatch makes a BatchFunc of a decoder and a function of the decoded values.
// What cannot be decoded, and what follows it within its key, is not given to
// handle; it is decoded again by itself, which makes a dead letter of it. handle
// may return a BatchError of the values that it failed with.
func TypedBatch[T any](decode func(*message.Message) (T, error), handle func(context.Context, []T) error) BatchFunc {
	if decode == nil || handle == nil {
		return nil // Router.HandleBatch reports it
	}
	return func(b *record.Batch) error {
		values := make([]T, 0, len(b.Messages))
		places := make([]int, 0, len(b.Messages)) // of the values in the batch
		failed := map[int]error{}
		behind := map[string]bool{}
		for i, msg := range b.Messages {
			key, keyed := Key(msg)
			if keyed && behind[key] {
				failed[i] = nil
				continue
			}
			v, err := decode(msg)
			if err != nil {
				failed[i] = decodeError(err)
				behind[key] = keyed
				continue
			}
			values, places = append(values, v), append(places, i)
		}
		if err := handleSome(b.Context(), values, places, handle, failed); err != nil {
			return err
		}
		if len(failed) > 0 {
			return &BatchError{Failed: failed}
		}
		return nil
	}
}

// handleSome calls handle, if there are values, and adds what it failed with to
// failed.
func handleSome[T any](ctx context.Context, values []T, places []int, handle func(context.Context, []T) error, failed map[int]error) error {
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

// Key returns the key within which msg is in order, if it has one.
func Key(msg *message.Message) (string, bool) {
	if r, ok := record.From(msg.Context()); ok {
		return string(r.Key), r.Key != nil
	}
	key, ok := msg.Metadata[outbox.MetadataKey]
	return key, ok
}

// JSON decodes the payload as JSON, for Typed. An empty payload, a tombstone for
// example, is an error.
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
