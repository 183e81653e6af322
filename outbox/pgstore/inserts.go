package pgstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

// inserts are the two forms of a statement that stores messages.
type inserts struct{ one, many statement }

// statement is a fixed text, prepared or not.
type statement struct {
	text     string
	prepared atomic.Pointer[sql.Stmt]
}

func (in *inserts) forMessages(n int) *statement {
	if n == 1 {
		return &in.one
	}
	return &in.many
}

func (in *inserts) prepare(ctx context.Context, db *sql.DB) error {
	return errors.Join(in.one.prepare(ctx, db), in.many.prepare(ctx, db))
}

func (in *inserts) close() error { return errors.Join(in.one.close(), in.many.close()) }

func (s *statement) prepare(ctx context.Context, db *sql.DB) error {
	if s.prepared.Load() != nil {
		return nil
	}
	stmt, err := db.PrepareContext(ctx, s.text)
	if err != nil {
		return fmt.Errorf("prepare the outbox insert: %w", err)
	}
	if !s.prepared.CompareAndSwap(nil, stmt) {
		return stmt.Close()
	}
	return nil
}

func (s *statement) close() error {
	if stmt := s.prepared.Swap(nil); stmt != nil {
		return stmt.Close()
	}
	return nil
}

// notSent reports that database/sql refused the statement before any I/O: it was
// prepared on another *sql.DB than the transaction's.
func notSent(err error) bool {
	var server *pq.Error
	return !errors.As(err, &server) && !errors.Is(err, sql.ErrTxDone) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// appendArgs are the nine parameters for msgs: of the statement for one, if it is
// one, otherwise arrays.
func appendArgs(msgs []outbox.Message) ([]any, error) {
	if len(msgs) == 1 {
		return oneArgs(&msgs[0])
	}
	n := len(msgs)
	ids, topics, keys := make([]string, n), make([]string, n), make([]string, n)
	types, aggTypes, aggIDs := make([]string, n), make([]string, n), make([]string, n)
	versions, headers, payloads := make([]int64, n), make([]string, n), make(nullableBytes, n)
	for i := range msgs {
		m := &msgs[i]
		ids[i], topics[i], keys[i], types[i] = m.ID.String(), m.Topic, m.Key, m.Type
		aggTypes[i], aggIDs[i], versions[i] = m.AggregateType, m.AggregateID, m.AggregateVersion
		var err error
		if headers[i], err = headersJSON(m); err != nil {
			return nil, err
		}
		payloads[i] = m.Payload
	}
	return []any{pq.Array(ids), pq.Array(topics), pq.Array(keys), pq.Array(aggTypes), pq.Array(aggIDs),
		pq.Array(versions), pq.Array(types), pq.Array(headers), payloads}, nil
}

func oneArgs(m *outbox.Message) ([]any, error) {
	headers, err := headersJSON(m)
	if err != nil {
		return nil, err
	}
	var payload any // a null one is a Kafka tombstone
	if m.Payload != nil {
		payload = m.Payload
	}
	return []any{m.ID.String(), m.Topic, m.Key, m.AggregateType, m.AggregateID, m.AggregateVersion, m.Type, headers, payload}, nil
}

func headersJSON(m *outbox.Message) (string, error) {
	if len(m.Headers) == 0 {
		return "{}", nil
	}
	b, err := json.Marshal(m.Headers)
	if err != nil {
		return "", fmt.Errorf("encode headers: %w", err)
	}
	return string(b), nil
}
