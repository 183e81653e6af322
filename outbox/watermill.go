package outbox

import (
	"context"
	"iter"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
)

// MetadataKey is the Watermill metadata name that holds a message's key. It is never
// sent as a header: the marshaler makes it the record's key.
const MetadataKey = "millrace-key"

// ToWatermill returns e as a Watermill message with ctx: the UUID is the event
// id, the metadata are the record's headers and MetadataKey.
func ToWatermill(ctx context.Context, e *Entry) *message.Message {
	m := message.NewMessage(watermillUUID(e), e.Payload)
	m.SetContext(ctx)
	for name, value := range RecordHeaders(e) {
		m.Metadata.Set(name, value)
	}
	m.Metadata.Set(MetadataKey, e.Key)
	return m
}

// RecordHeaders yields the name and value of each header of e's record: those made
// from its columns, then Message.Headers without reserved names, in no order.
func RecordHeaders(e *Entry) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		if !yield(HeaderEventID, e.ID.String()) {
			return
		}
		if e.Type != "" && !yield(HeaderEventType, e.Type) {
			return
		}
		if e.AggregateType != "" && !yield(HeaderAggregateType, e.AggregateType) {
			return
		}
		if e.AggregateID != "" && !yield(HeaderAggregateID, e.AggregateID) {
			return
		}
		if e.AggregateVersion > 0 && !yield(HeaderAggregateVersion, strconv.FormatInt(e.AggregateVersion, 10)) {
			return
		}
		if _, set := e.Headers[HeaderOccurredAt]; !set && !yield(HeaderOccurredAt, e.CreatedAt.UTC().Format(time.RFC3339Nano)) {
			return
		}
		for name, value := range e.Headers {
			if !ReservedHeader(name) && !yield(name, value) {
				return
			}
		}
	}
}

// headerWatermillUUID keeps the UUID field of a Watermill message if it is not a UUID.
const headerWatermillUUID = "watermill-uuid"

// FromWatermill returns a Watermill message as an outbox message: the inverse of
// ToWatermill. The UUID field becomes the event id; if it is not a UUID, one is
// derived from it. Metadata with the names of columns become the fields, the others
// headers.
func FromWatermill(topic string, m *message.Message) (Message, error) {
	out := Message{Topic: topic, Payload: m.Payload, Headers: map[string]string{}}
	id, err := uuid.Parse(m.UUID)
	if err != nil {
		id = uuid.NewSHA1(uuid.NameSpaceOID, []byte(m.UUID))
		out.Headers[headerWatermillUUID] = m.UUID
	}
	out.ID = id
	for name, value := range m.Metadata {
		switch name {
		case MetadataKey:
			out.Key = value
		case HeaderEventID:
		case HeaderEventType:
			out.Type = value
		case HeaderAggregateType:
			out.AggregateType = value
		case HeaderAggregateID:
			out.AggregateID = value
		case HeaderAggregateVersion:
			if out.AggregateVersion, err = strconv.ParseInt(value, 10, 64); err != nil {
				return out, &MessageError{Field: "aggregate version", Reason: "is not a decimal number"}
			}
		default:
			out.Headers[name] = value
		}
	}
	return out, nil
}

// watermillUUID returns the UUID that e had as a Watermill message.
func watermillUUID(e *Entry) string {
	if id, ok := e.Headers[headerWatermillUUID]; ok {
		return id
	}
	return e.ID.String()
}
