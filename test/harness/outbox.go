package harness

import (
	"database/sql"
	"encoding/json"
	"testing"
)

// OutboxRow is a message as it is in the outbox.
type OutboxRow struct {
	Topic, Key string
	Headers    map[string]string // its own, and those that the relay makes of the columns
	Payload    []byte            // nil is a null payload
}

const readOutbox = `
SELECT coalesce(json_agg(json_build_object('topic', topic, 'key', key, 'payload', encode(payload, 'base64'),
       'headers', headers || jsonb_strip_nulls(jsonb_build_object(
           'event-id', event_id, 'event-type', nullif(event_type, ''), 'aggregate-type', nullif(aggregate_type, ''),
           'aggregate-id', nullif(aggregate_id, ''), 'aggregate-version', aggregate_version::text))) ORDER BY position), '[]')
  FROM outbox`

// ReadOutbox returns what has been committed to the outbox of db, ordered by
// position. It shares no query with Millrace's own readers.
func ReadOutbox(t testing.TB, db *sql.DB) (rows []OutboxRow) {
	t.Helper()
	var text []byte
	err := db.QueryRowContext(t.Context(), readOutbox).Scan(&text)
	if err == nil {
		err = json.Unmarshal(text, &rows)
	}
	if err != nil {
		t.Fatal("harness: read the outbox:", err)
	}
	return rows
}
