package watermillsql

import (
	"context"
	stdsql "database/sql"
	"encoding/json"
	"fmt"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox"
)

// Schema is a watermill-sql SchemaAdapter over the outbox. The zero value is
// usable. The tables are made by `millrace migrate up`, not by watermill-sql.
//
// A sql.Publisher with it writes outbox rows: what a row holds is what
// outbox.NewPublisher would have written.
//
// A sql.Subscriber with it and Offsets reads the outbox by topic. It delivers
// what is below the lowest position that a running writer may still fill, so it
// loses nothing, and it waits for the longest transaction that writes to the
// outbox: outbox.NewSubscriber does not. Its first subscription needs
// SubscriberConfig.InitializeSchema, which makes a table and a function beside
// the outbox.
type Schema struct {
	// Key gives a message's key when it is published.
	// Default outbox.KeyFromMetadata.
	Key outbox.KeyFunc
	// MaxPayloadBytes is the largest payload that is published, in bytes.
	// Default outbox.MaxPayloadBytes.
	MaxPayloadBytes int
	// SubscribeBatchSize is how many messages one query of a subscriber reads.
	// They are acknowledged together. Default 100.
	SubscribeBatchSize int
}

var _ wsql.SchemaAdapter = Schema{}

// InsertQuery implements sql.SchemaAdapter. Bad messages are refused before any
// I/O with errors that are outbox.ErrInvalidMessage.
func (s Schema) InsertQuery(topic string, msgs message.Messages) (wsql.Query, error) {
	rows, err := s.rows(topic, msgs)
	if err != nil {
		return wsql.Query{}, err
	}
	args, err := rows.args()
	return wsql.Query{Query: insertSQL, Args: args}, err
}

// rows returns what InsertQuery would insert.
func (s Schema) rows(topic string, msgs message.Messages) (outboxRows, error) {
	key := s.Key
	if key == nil {
		key = outbox.KeyFromMetadata
	}
	out := make([]outbox.Message, len(msgs))
	for i, m := range msgs {
		var err error
		if out[i], err = convert(key, topic, m); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
	}
	return checked(out, s.MaxPayloadBytes)
}

// SelectQuery implements sql.SchemaAdapter. offsets must be Offsets.
func (s Schema) SelectQuery(topic, consumerGroup string, offsets wsql.OffsetsAdapter) wsql.Query {
	if _, ours := offsets.(Offsets); !ours {
		return wsql.Query{Query: misuseSQL}
	}
	most := s.SubscribeBatchSize
	if most <= 0 {
		most = 100
	}
	return wsql.Query{Query: readSQL, Args: []any{CursorName(consumerGroup, topic), topic, most}}
}

// UnmarshalMessage implements sql.SchemaAdapter.
func (s Schema) UnmarshalMessage(row wsql.Scanner) (wsql.Row, error) {
	var e outbox.Entry
	var id string
	var headers []byte
	var micros int64
	err := row.Scan(&e.Position, &id, &e.Topic, &e.Key, &e.AggregateType, &e.AggregateID, &e.AggregateVersion,
		&e.Type, &headers, &e.Payload, &micros)
	if err != nil {
		return wsql.Row{}, fmt.Errorf("read the outbox: %w", err)
	}
	if e.ID, err = uuid.Parse(id); err != nil {
		return wsql.Row{}, fmt.Errorf("read the outbox: position %d: event id: %w", e.Position, err)
	}
	if e.Headers, err = headerTexts(headers); err != nil {
		return wsql.Row{}, fmt.Errorf("read the outbox: position %d: headers: %w", e.Position, err)
	}
	e.CreatedAt = time.UnixMicro(micros)
	m := outbox.ToWatermill(context.Background(), &e)
	return wsql.Row{Offset: e.Position, UUID: []byte(m.UUID), Payload: e.Payload, Metadata: headers, Msg: m}, nil
}

// headerTexts reads a jsonb object. Values that are no strings keep their JSON text.
func headerTexts(b []byte) (map[string]string, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, err
	}
	out := make(map[string]string, len(raw))
	for name, value := range raw {
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = string(value)
		}
		out[name] = text
	}
	return out, nil
}

// SchemaInitializingQueries implements sql.SchemaAdapter: it only checks that
// the outbox is there.
func (s Schema) SchemaInitializingQueries(string) []wsql.Query {
	return []wsql.Query{{Query: requireOutboxSQL}}
}

// SubscribeIsolationLevel implements sql.SchemaAdapter. Read committed is needed
// to see the writers before the rows; a stricter level would lose messages, and
// is refused by the query.
func (s Schema) SubscribeIsolationLevel() stdsql.IsolationLevel { return stdsql.LevelReadCommitted }
