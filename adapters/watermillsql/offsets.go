package watermillsql

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
)

// NewOffsets returns watermill-sql's OffsetsAdapter that belongs to NewSchema. A
// consumer group's offset is a row of outbox_cursor: `millrace lag` shows it, and
// retention keeps what it has not passed. An outbox.Subscriber of the same group
// and topic has the same cursor and continues from it.
//
// The cursor's name is the group and the topic with a dot between them. The empty
// group is "watermill". A group that is not a valid group of an outbox.Subscriber
// is replaced by its hash, and so is the topic if the name would be longer than 64
// characters.
func NewOffsets() wsql.OffsetsAdapter { return offsets{} }

type offsets struct{}

var plainGroup = regexp.MustCompile(`^[A-Za-z0-9._-]{1,20}$`)

// cursorName is the name in outbox_cursor of a group's offset, see NewOffsets.
func cursorName(consumerGroup, topic string) string {
	group := consumerGroup
	if group == "" {
		group = "watermill"
	}
	if !plainGroup.MatchString(group) {
		sum := sha256.Sum256([]byte(group))
		group = "w-" + hex.EncodeToString(sum[:9])
	}
	if name := group + "." + topic; len(name) <= 64 {
		return name
	}
	sum := sha256.Sum256([]byte(topic))
	return group + "." + hex.EncodeToString(sum[:20])
}

// AckMessageQuery implements sql.OffsetsAdapter.
func (offsets) AckMessageQuery(topic string, row wsql.Row, consumerGroup string) wsql.Query {
	return wsql.Query{Query: ackSQL, Args: []any{cursorName(consumerGroup, topic), row.Offset}}
}

// ConsumedMessageQuery implements sql.OffsetsAdapter: it is empty.
func (offsets) ConsumedMessageQuery(string, wsql.Row, string, []byte) wsql.Query { return wsql.Query{} }

// NextOffsetQuery implements sql.OffsetsAdapter: the position that the group has
// acknowledged, locked.
func (offsets) NextOffsetQuery(topic, consumerGroup string) wsql.Query {
	return wsql.Query{Query: nextOffsetSQL, Args: []any{cursorName(consumerGroup, topic)}}
}

// SchemaInitializingQueries implements sql.OffsetsAdapter: the table
// outbox_watermill_gate and the function outbox_watermill_read. A role that may
// not create them can subscribe once another one has.
func (offsets) SchemaInitializingQueries(string) []wsql.Query {
	return []wsql.Query{{Query: createReaderSQL}}
}

// BeforeSubscribingQueries implements sql.OffsetsAdapter: a new group starts at the
// oldest message.
func (offsets) BeforeSubscribingQueries(topic, consumerGroup string) []wsql.Query {
	name := []any{cursorName(consumerGroup, topic)}
	return []wsql.Query{{Query: addCursorSQL, Args: name}, {Query: addGateSQL, Args: name}}
}
