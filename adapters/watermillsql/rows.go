package watermillsql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

// convert returns the outbox message of a Watermill message.
func convert(key outbox.KeyFunc, topic string, m *message.Message) (outbox.Message, error) {
	k, err := key(topic, m)
	if err != nil {
		return outbox.Message{}, err
	}
	out, err := outbox.FromWatermill(topic, m)
	out.Key = k
	return out, err
}

// atIndex returns err as that of the message with index i of a call.
func atIndex(i int, err error) error {
	if bad, ok := errors.AsType[*outbox.MessageError](err); ok {
		indexed := *bad
		indexed.Index = i
		return &indexed
	}
	return fmt.Errorf("message %d: %w", i, err)
}

// outboxRows are messages that the outbox accepts, with their ids.
type outboxRows []outbox.Message

// checked validates msgs as outbox.Writer does, without storing them.
func checked(msgs []outbox.Message, maxPayload int) (outboxRows, error) {
	var rows collector
	w, err := outbox.NewWriter(&rows, outbox.WriterConfig{MaxPayloadBytes: maxPayload})
	if err != nil {
		return nil, err
	}
	if err := w.Append(context.Background(), nil, msgs...); err != nil {
		return nil, err
	}
	return rows.msgs, nil
}

type collector struct{ msgs outboxRows }

// Append implements outbox.Appender.
func (c *collector) Append(_ context.Context, _ *sql.Tx, msgs []outbox.Message) error {
	c.msgs = msgs
	return nil
}

// args are the parameters $1 to $9 of an insert.
func (r outboxRows) args() ([]any, error) {
	n := len(r)
	ids, topics, keys := make([]string, n), make([]string, n), make([]string, n)
	types, aggTypes, aggIDs := make([]string, n), make([]string, n), make([]string, n)
	versions, headers, payloads := make([]int64, n), make([]string, n), make(byteas, n)
	for i := range r {
		m := &r[i]
		ids[i], topics[i], keys[i], types[i] = m.ID.String(), m.Topic, m.Key, m.Type
		aggTypes[i], aggIDs[i], versions[i] = m.AggregateType, m.AggregateID, m.AggregateVersion
		headers[i], payloads[i] = "{}", m.Payload
		if len(m.Headers) > 0 {
			b, err := json.Marshal(m.Headers)
			if err != nil {
				return nil, fmt.Errorf("encode headers: %w", err)
			}
			headers[i] = string(b)
		}
	}
	return []any{pq.Array(ids), pq.Array(topics), pq.Array(keys), pq.Array(aggTypes), pq.Array(aggIDs),
		pq.Array(versions), pq.Array(types), pq.Array(headers), payloads}, nil
}

// byteas is a bytea[] as text; a nil element is NULL.
type byteas [][]byte

// Value implements driver.Valuer.
func (a byteas) Value() (driver.Value, error) {
	b := []byte{'{'}
	for i, x := range a {
		if i > 0 {
			b = append(b, ',')
		}
		if x == nil {
			b = append(b, "NULL"...)
			continue
		}
		b = append(hex.AppendEncode(append(b, `"\\x`...), x), '"')
	}
	return string(append(b, '}')), nil
}
