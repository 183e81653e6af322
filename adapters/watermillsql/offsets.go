package watermillsql

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
)

// Offsets is the watermill-sql OffsetsAdapter that belongs to Schema. A consumer
// group's offset is a row of outbox_cursor: `millrace lag` shows it, and
// retention keeps what it has not passed. It is the cursor of an
// outbox.Subscriber of the same group and topic, which goes on from it.
type Offsets struct{}

var _ wsql.OffsetsAdapter = Offsets{}

var plainGroup = regexp.MustCompile(`^[A-Za-z0-9._-]{1,20}$`)

// CursorName is the name in outbox_cursor of a consumer group's offset in topic:
// group and topic with a dot between, the topic replaced by its hash if that is
// longer than 64 characters, the group by its hash if it is no good group name
// for an outbox.Subscriber. The empty group is "watermill".
func CursorName(consumerGroup, topic string) string {
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
func (Offsets) AckMessageQuery(topic string, row wsql.Row, consumerGroup string) wsql.Query {
	return wsql.Query{Query: ackSQL, Args: []any{CursorName(consumerGroup, topic), row.Offset}}
}

// ConsumedMessageQuery implements sql.OffsetsAdapter; there is none.
func (Offsets) ConsumedMessageQuery(string, wsql.Row, string, []byte) wsql.Query { return wsql.Query{} }

// NextOffsetQuery implements sql.OffsetsAdapter: the position that the group has
// acknowledged, locked.
func (Offsets) NextOffsetQuery(topic, consumerGroup string) wsql.Query {
	return wsql.Query{Query: nextOffsetSQL, Args: []any{CursorName(consumerGroup, topic)}}
}

// SchemaInitializingQueries implements sql.OffsetsAdapter: the table
// outbox_watermill_gate and the function outbox_watermill_read. A role that may
// not create them can subscribe once another one has.
func (Offsets) SchemaInitializingQueries(string) []wsql.Query {
	return []wsql.Query{{Query: createReaderSQL}}
}

// BeforeSubscribingQueries implements sql.OffsetsAdapter: a group begins at the
// oldest message of the log.
func (Offsets) BeforeSubscribingQueries(topic, consumerGroup string) []wsql.Query {
	name := []any{CursorName(consumerGroup, topic)}
	return []wsql.Query{{Query: addCursorSQL, Args: name}, {Query: addGateSQL, Args: name}}
}
