package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
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
