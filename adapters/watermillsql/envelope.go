package watermillsql

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// ErrNotEnvelope means that a stock row's payload is no envelope of Watermill's
// forwarder.
var ErrNotEnvelope = errors.New("not an envelope of the forwarder")

// UnwrapFunc makes the message to send of a row of the stock table with the given
// topic, and says where to.
type UnwrapFunc func(topic string, m *message.Message) (destination string, out *message.Message, err error)

// envelope is what forwarder.Publisher writes with its default marshaler.
type envelope struct {
	DestinationTopic string            `json:"destination_topic"`
	UUID             string            `json:"uuid"`
	Payload          []byte            `json:"payload"`
	Metadata         map[string]string `json:"metadata"`
}

// Envelope takes the message out of a forwarder's envelope. What is none is
// refused with ErrNotEnvelope.
func Envelope(_ string, m *message.Message) (string, *message.Message, error) {
	var e envelope
	if err := json.Unmarshal(m.Payload, &e); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrNotEnvelope, err)
	}
	if e.DestinationTopic == "" {
		return "", nil, fmt.Errorf("%w: it names no destination topic", ErrNotEnvelope)
	}
	if e.UUID == "" {
		e.UUID = m.UUID
	}
	out := message.NewMessage(e.UUID, e.Payload)
	if e.Metadata != nil {
		out.Metadata = e.Metadata
	}
	return e.DestinationTopic, out, nil
}

// Plain takes the row as it is, to the topic of its table: for tables that are
// read by handlers and not by a forwarder.
func Plain(topic string, m *message.Message) (string, *message.Message, error) { return topic, m, nil }
