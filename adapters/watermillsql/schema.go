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

// SchemaConfig configures NewSchema. The zero value is usable.
type SchemaConfig struct {
	// Key returns the key of a message that is published.
	// Default outbox.KeyFromMetadata.
	Key outbox.KeyFunc
	// MaxPayloadBytes is the largest payload that is published, in bytes.
	// Default outbox.MaxPayloadBytes.
	MaxPayloadBytes int
	// SubscribeBatchSize is how many messages one query of a subscriber reads.
	// They are acknowledged together. Default 100.
	SubscribeBatchSize int
}

func (c SchemaConfig) withDefaults() SchemaConfig {
	if c.Key == nil {
		c.Key = outbox.KeyFromMetadata
	}
	if c.SubscribeBatchSize <= 0 {
		c.SubscribeBatchSize = 100
	}
	return c
}

// NewSchema returns watermill-sql's SchemaAdapter over the outbox. Its tables are
// created by `millrace migrate up`, not by watermill-sql.
//
// A sql.Publisher with it writes outbox rows, the same that outbox.NewPublisher
// writes. Bad messages are refused before any I/O with errors that are
// outbox.ErrInvalidMessage.
//
// A sql.Subscriber with it and NewOffsets reads the outbox by topic. It delivers
// only what is below the lowest position that a running writer may still fill. So
// it loses nothing, but it waits for the longest transaction that writes to the
// outbox; outbox.NewSubscriber does not. Its first subscription needs
// SubscriberConfig.InitializeSchema, which creates a table and a function beside
// the outbox.
func NewSchema(cfg SchemaConfig) wsql.SchemaAdapter { return schema{cfg.withDefaults()} }

type schema struct{ cfg SchemaConfig }

// InsertQuery implements sql.SchemaAdapter.
func (s schema) InsertQuery(topic string, msgs message.Messages) (wsql.Query, error) {
	rows, err := s.rows(topic, msgs)
	if err != nil {
		return wsql.Query{}, err
	}
	args, err := rows.args()
	return wsql.Query{Query: insertSQL, Args: args}, err
}

// rows returns what InsertQuery would insert.
func (s schema) rows(topic string, msgs message.Messages) (outboxRows, error) {
	out := make([]outbox.Message, len(msgs))
	for i, m := range msgs {
		var err error
		if out[i], err = convert(s.cfg.Key, topic, m); err != nil {
			return nil, atIndex(i, err)
		}
	}
	return checked(out, s.cfg.MaxPayloadBytes)
}

// SelectQuery implements sql.SchemaAdapter. adapter must be those of NewOffsets.
func (s schema) SelectQuery(topic, consumerGroup string, adapter wsql.OffsetsAdapter) wsql.Query {
	if _, ours := adapter.(offsets); !ours {
		return wsql.Query{Query: misuseSQL}
	}
	return wsql.Query{Query: readSQL, Args: []any{cursorName(consumerGroup, topic), topic, s.cfg.SubscribeBatchSize}}
}

// UnmarshalMessage implements sql.SchemaAdapter.
func (s schema) UnmarshalMessage(row wsql.Scanner) (wsql.Row, error) {
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

// headerTexts reads a jsonb object. Values that are not strings keep their JSON text.
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
func (s schema) SchemaInitializingQueries(string) []wsql.Query {
	return []wsql.Query{{Query: requireOutboxSQL}}
}

// SubscribeIsolationLevel implements sql.SchemaAdapter. Read committed is needed
// to see the writers before the rows; a stricter level would lose messages, and
// is refused by the query.
func (s schema) SubscribeIsolationLevel() stdsql.IsolationLevel { return stdsql.LevelReadCommitted }
