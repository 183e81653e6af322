package watermillsql

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
)

// ErrNotEnvelope means that a stock row's payload is not an envelope of
// Watermill's forwarder.
var ErrNotEnvelope = errors.New("not an envelope of the forwarder")

// UnwrapFunc returns the message to send for a row of the stock table of topic,
// and the topic to send it to.
type UnwrapFunc func(topic string, m *message.Message) (destination string, out *message.Message, err error)

// envelope is what forwarder.Publisher writes with its default marshaler.
type envelope struct {
	DestinationTopic string            `json:"destination_topic"`
	UUID             string            `json:"uuid"`
	Payload          []byte            `json:"payload"`
	Metadata         map[string]string `json:"metadata"`
}

// Envelope takes the message out of a forwarder's envelope. It refuses anything
// else with ErrNotEnvelope.
func Envelope(_ string, m *message.Message) (string, *message.Message, error) {
	var e envelope
	if err := json.Unmarshal(m.Payload, &e); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrNotEnvelope, err)
	}
	if e.DestinationTopic == "" {
		return "", nil, fmt.Errorf("%w: destination_topic is empty", ErrNotEnvelope)
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

// Plain returns the row as it is, for the topic of its table. It is meant for
// tables that handlers read without a forwarder.
func Plain(topic string, m *message.Message) (string, *message.Message, error) { return topic, m, nil }

// KeyFrom takes the key from the metadata with the given name, such as the one
// that a Kafka marshaler took the partition key from.
func KeyFrom(name string) outbox.KeyFunc {
	return func(_ string, m *message.Message) (string, error) {
		if key := m.Metadata.Get(name); key != "" {
			return key, nil
		}
		return "", &outbox.MessageError{Field: "key", Reason: "is empty: the metadata " + name + " is missing"}
	}
}
