package outbox

import (
	"time"

	"github.com/google/uuid"
)

// Names of the headers that the relay writes on every record. All values are
// UTF-8 text. The first five come from the columns of the outbox and may not be
// set through Message.Headers.
const (
	HeaderEventID          = "event-id"
	HeaderEventType        = "event-type"
	HeaderAggregateType    = "aggregate-type"
	HeaderAggregateID      = "aggregate-id"
	HeaderAggregateVersion = "aggregate-version"

	HeaderSchemaVersion = "schema-version" // decimal; set by the writer
	HeaderOccurredAt    = "occurred-at"    // RFC 3339 with nanoseconds, UTC; the row's created_at if the writer set none
	HeaderTraceparent   = "traceparent"    // W3C trace context
	HeaderCorrelationID = "correlation-id"
	HeaderCausationID   = "causation-id"
)

// Message is what the outbox stores and the broker carries.
type Message struct {
	// ID is the event id, unique forever; consumers deduplicate by it.
	// If it is the zero UUID, Append generates one (version 7).
	ID uuid.UUID
	// Topic is the Kafka topic: 1 to 249 characters of [A-Za-z0-9._-].
	Topic string
	// Key decides partition and order: messages of one key are delivered in
	// commit order. 1 to 1024 bytes of UTF-8 without NUL.
	Key string
	// Type is the event type, such as "notification.requested". 0 to 255 bytes.
	Type string
	// AggregateType, AggregateID and AggregateVersion name the entity that
	// changed and its version after the change. Version 0 means none.
	AggregateType    string
	AggregateID      string
	AggregateVersion int64
	// Headers are further record headers, at most MaxHeaders. Nil means none.
	Headers map[string]string
	// Payload is carried as is. Nil is a Kafka tombstone (null value).
	Payload []byte
}

// Entry is a message with its place in the log.
type Entry struct {
	// Position is the place in the log, unique in it and rising with the order
	// of insertion. Do not use it as an event id: after a failover to a standby that
	// lagged, positions can be issued again.
	Position int64
	// CreatedAt is the database's clock at insertion.
	CreatedAt time.Time
	Message
}
