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

	"github.com/millrace-go/millrace/outbox"
)

// Moving is the SchemaAdapter of publishers while a team moves over. It writes
// what the stock adapter writes until Importer.Switch has been called, and to the
// outbox from then on; which of them is decided in the business transaction, so
// that all writers change at one instant and no key's order is broken. Subscribers
// keep the stock adapter.
//
// A REPEATABLE READ or SERIALIZABLE transaction that began before the switch and
// publishes after it gets a serialization failure, and has to be repeated.
type Moving struct {
	// Stock is the adapter that publishers have used so far.
	Stock wsql.DefaultPostgreSQLSchema
	// Outbox makes the rows of the outbox.
	Outbox Schema
	// Unwrap is the same as ImportConfig.Unwrap. Default Envelope.
	Unwrap UnwrapFunc
}

var _ wsql.SchemaAdapter = Moving{}

// SelectQuery implements sql.SchemaAdapter, as the stock adapter does.
func (m Moving) SelectQuery(topic, consumerGroup string, offsets wsql.OffsetsAdapter) wsql.Query {
	return m.Stock.SelectQuery(topic, consumerGroup, offsets)
}

// InsertQuery implements sql.SchemaAdapter. Messages that the outbox would refuse
// are refused before the switch, too.
func (m Moving) InsertQuery(topic string, msgs message.Messages) (wsql.Query, error) {
	if !topicName.MatchString(topic) {
		return wsql.Query{}, fmt.Errorf("topic %q: is none of watermill-sql", topic)
	}
	rows, err := m.rows(topic, msgs)
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
	table := m.Stock.MessagesTable(topic)
	text := fmt.Sprintf(insertMovingSQL, table, m.cast(topic))
	return wsql.Query{Query: text, Args: append(args, table, pq.Array(ids), payloads, metadata)}, nil
}

// UnmarshalMessage implements sql.SchemaAdapter, as the stock adapter does.
func (m Moving) UnmarshalMessage(row wsql.Scanner) (wsql.Row, error) {
	return m.Stock.UnmarshalMessage(row)
}

// SchemaInitializingQueries implements sql.SchemaAdapter: the stock table, and a
// check that the outbox is there.
func (m Moving) SchemaInitializingQueries(topic string) []wsql.Query {
	return append(m.Stock.SchemaInitializingQueries(topic), m.Outbox.SchemaInitializingQueries(topic)...)
}

// SubscribeIsolationLevel implements sql.SchemaAdapter, as the stock adapter does.
func (m Moving) SubscribeIsolationLevel() sql.IsolationLevel {
	return m.Stock.SubscribeIsolationLevel()
}

// rows are the outbox rows of msgs.
func (m Moving) rows(topic string, msgs message.Messages) (outboxRows, error) {
	unwrap := m.Unwrap
	if unwrap == nil {
		unwrap = Envelope
	}
	var out outboxRows
	var errs []error
	for i, x := range msgs {
		destination, inner, err := unwrap(topic, x)
		if err == nil {
			var row outboxRows
			row, err = m.Outbox.rows(destination, message.Messages{inner})
			out = append(out, row...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("message %d: %w", i, err))
		}
	}
	return out, errors.Join(errs...)
}

// cast turns the bytea p into the stock table's payload.
func (m Moving) cast(topic string) string {
	if kind := m.Stock.PayloadColumnType(topic); !strings.EqualFold(kind, "bytea") {
		return "convert_from(p, 'UTF8')::" + kind
	}
	return "p"
}

// KeyFromMetadataNamed takes the key from the metadata with the given name, such
// as the one that a Kafka marshaler took the partition key from.
func KeyFromMetadataNamed(name string) outbox.KeyFunc {
	return func(_ string, m *message.Message) (string, error) {
		if key := m.Metadata.Get(name); key != "" {
			return key, nil
		}
		return "", &outbox.MessageError{Field: "key", Reason: "is empty: the metadata " + name + " is missing"}
	}
}
