package pgstore

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox"
)

// scanner turns rows into entries. It keeps one copy of strings that recur.
type scanner struct{ names map[string]string }

// maxNames bounds the kept strings; names are few, but nothing enforces it.
const maxNames = 4096

func newScanner() scanner { return scanner{names: map[string]string{}} }

// all reads rows up to limit, or until the payloads reach maxBytes. cut says
// that it stopped at either.
func (s scanner) all(rows *sql.Rows, limit, maxBytes int) (entries []outbox.Entry, cut bool, err error) {
	defer rows.Close()
	var id, topic, aggType, aggID, typ, headers sql.RawBytes
	var micros int64
	bytes := 0
	for rows.Next() {
		if entries == nil {
			entries = make([]outbox.Entry, 0, min(limit, 64))
		}
		entries = append(entries, outbox.Entry{})
		e := &entries[len(entries)-1]
		if err := rows.Scan(&e.Position, &id, &topic, &e.Key, &aggType, &aggID, &e.AggregateVersion, &typ, &headers, &e.Payload, &micros); err != nil {
			return nil, false, fmt.Errorf("read the log: %w", err)
		}
		if e.ID, err = uuid.ParseBytes(id); err != nil {
			return nil, false, fmt.Errorf("read the log: position %d: event id: %w", e.Position, err)
		}
		e.Topic, e.AggregateType, e.Type = s.name(topic), s.name(aggType), s.name(typ)
		if string(aggID) == e.Key {
			e.AggregateID = e.Key
		} else {
			e.AggregateID = string(aggID)
		}
		e.Headers = decodeHeaders(headers)
		e.CreatedAt = time.UnixMicro(micros)
		if bytes += len(e.Payload); len(entries) == limit || bytes >= maxBytes {
			return entries, true, rows.Close()
		}
	}
	return entries, false, rows.Err()
}

func (s scanner) name(b []byte) string {
	if n, ok := s.names[string(b)]; ok {
		return n
	}
	n := string(b)
	if len(s.names) < maxNames {
		s.names[n] = n
	}
	return n
}

// decodeHeaders reads a jsonb object. Values that are no strings, which only
// writers outside this library produce, keep their JSON text.
func decodeHeaders(b []byte) map[string]string {
	if len(b) <= 2 {
		return nil
	}
	var headers map[string]string
	if json.Unmarshal(b, &headers) == nil {
		return headers
	}
	var raw map[string]json.RawMessage
	if json.Unmarshal(b, &raw) != nil { // the column is a checked jsonb object
		return nil
	}
	headers = make(map[string]string, len(raw))
	for name, value := range raw {
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = string(value)
		}
		headers[name] = text
	}
	return headers
}
