package watermillsql

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/lib/pq"
)

// SwitchSchemaConfig configures NewSwitchSchema. The zero value is usable.
type SwitchSchemaConfig struct {
	// Stock is the adapter that the publishers have used so far.
	// Default watermill-sql's own.
	Stock wsql.DefaultPostgreSQLSchema
	// Outbox configures the rows of the outbox.
	Outbox SchemaConfig
	// Unwrap must be the same as ImportConfig.Unwrap. Default Envelope.
	Unwrap UnwrapFunc
}

// NewSwitchSchema returns the SchemaAdapter of publishers while a team moves over.
// It writes the stock rows until Importer.Switch is called, and outbox rows from
// then on. Each business transaction decides which, so that all writers change at
// the same instant and the order of no key is broken. Messages that the outbox
// would refuse are refused before the switch, too. Subscribers keep the stock
// adapter.
//
// A REPEATABLE READ or SERIALIZABLE transaction that began before the switch and
// publishes after it gets a serialization failure, and must be repeated.
func NewSwitchSchema(cfg SwitchSchemaConfig) wsql.SchemaAdapter {
	if cfg.Unwrap == nil {
		cfg.Unwrap = Envelope
	}
	return switchSchema{stock: cfg.Stock, outbox: schema{cfg.Outbox.withDefaults()}, unwrap: cfg.Unwrap}
}

type switchSchema struct {
	stock  wsql.DefaultPostgreSQLSchema
	outbox schema
	unwrap UnwrapFunc
}

// SelectQuery implements sql.SchemaAdapter, as the stock adapter does.
func (s switchSchema) SelectQuery(topic, consumerGroup string, adapter wsql.OffsetsAdapter) wsql.Query {
	return s.stock.SelectQuery(topic, consumerGroup, adapter)
}

// InsertQuery implements sql.SchemaAdapter.
func (s switchSchema) InsertQuery(topic string, msgs message.Messages) (wsql.Query, error) {
	if !topicName.MatchString(topic) {
		return wsql.Query{}, fmt.Errorf("topic %q: must be a topic of watermill-sql: letters, digits and - $ : . _", topic)
	}
	rows, err := s.rows(topic, msgs)
	if err != nil {
		return wsql.Query{}, err
	}
	args, err := rows.args()
	if err != nil {
		return wsql.Query{}, err
	}
	ids, payloads, metadata := make([]string, len(msgs)), make(byteas, len(msgs)), make(byteas, len(msgs))
	for i, x := range msgs {
		ids[i], payloads[i] = x.UUID, []byte(x.Payload)
		if metadata[i], err = json.Marshal(x.Metadata); err != nil {
			return wsql.Query{}, fmt.Errorf("message %d: metadata: %w", i, err)
		}
	}
	table := s.stock.MessagesTable(topic)
	text := fmt.Sprintf(insertMovingSQL, table, s.cast(topic))
	return wsql.Query{Query: text, Args: append(args, table, pq.Array(ids), payloads, metadata)}, nil
}

// UnmarshalMessage implements sql.SchemaAdapter, as the stock adapter does.
func (s switchSchema) UnmarshalMessage(row wsql.Scanner) (wsql.Row, error) {
	return s.stock.UnmarshalMessage(row)
}

// SchemaInitializingQueries implements sql.SchemaAdapter: the stock table, and a
// check that the outbox is there.
func (s switchSchema) SchemaInitializingQueries(topic string) []wsql.Query {
	return append(s.stock.SchemaInitializingQueries(topic), s.outbox.SchemaInitializingQueries(topic)...)
}

// SubscribeIsolationLevel implements sql.SchemaAdapter, as the stock adapter does.
func (s switchSchema) SubscribeIsolationLevel() sql.IsolationLevel {
	return s.stock.SubscribeIsolationLevel()
}

// rows are the outbox rows of msgs.
func (s switchSchema) rows(topic string, msgs message.Messages) (outboxRows, error) {
	var out outboxRows
	var errs []error
	for i, x := range msgs {
		destination, inner, err := s.unwrap(topic, x)
		if err == nil {
			var row outboxRows
			row, err = s.outbox.rows(destination, message.Messages{inner})
			out = append(out, row...)
		}
		if err != nil {
			errs = append(errs, atIndex(i, err))
		}
	}
	return out, errors.Join(errs...)
}

// cast turns the bytea p into the stock table's payload.
func (s switchSchema) cast(topic string) string {
	if kind := s.stock.PayloadColumnType(topic); !strings.EqualFold(kind, "bytea") {
		return "convert_from(p, 'UTF8')::" + kind
	}
	return "p"
}
