package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

// Entry is one operation on dead letters.
type Entry struct {
	ID        int64             `json:"id"`
	Operation string            `json:"operation"` // dlt-replay-id of what it sent
	Actor     string            `json:"actor"`
	Action    deadletter.Action `json:"action"`
	Topic     string            `json:"topic"` // the dead-letter topic
	Filter    json.RawMessage   `json:"filter"`
	Note      string            `json:"note"`
	Open      int64             `json:"open"`     // open dead letters that it met
	Resolved  int64             `json:"resolved"` // of them
	Counts    json.RawMessage   `json:"counts"`
	Outcome   string            `json:"outcome"` // running, done, failed, abandoned
	Error     string            `json:"error,omitempty"`
	StartedAt time.Time         `json:"started_at"`
	EndedAt   *time.Time        `json:"ended_at"` // null while it runs
}

// List returns at most limit entries, the newest first. topic is a dead-letter
// topic, or empty for all.
func (l *Log) List(ctx context.Context, topic string, limit int) ([]Entry, error) {
	rows, err := l.db.QueryContext(ctx, listSQL, topic, limit)
	if err != nil {
		return nil, fmt.Errorf("list audit entries: %w", err)
	}
	defer rows.Close()
	all := []Entry{}
	for rows.Next() {
		var e Entry
		var ended sql.NullTime
		if err := rows.Scan(&e.ID, &e.Operation, &e.Actor, &e.Action, &e.Topic, &e.Filter, &e.Note, &e.Open, &e.Resolved, &e.Counts,
			&e.Outcome, &e.Error, &e.StartedAt, &ended); err != nil {
			return nil, fmt.Errorf("list audit entries: %w", err)
		}
		if ended.Valid {
			e.EndedAt = &ended.Time
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

// filterFields are the fields of a filter that are set, by name.
func filterFields(f *deadletter.Filter) map[string]any {
	set := map[string]any{}
	if len(f.Partitions) > 0 {
		set["partitions"] = f.Partitions
	}
	if f.FromOffset > 0 {
		set["from_offset"] = f.FromOffset
	}
	if f.ToOffset > 0 {
		set["to_offset"] = f.ToOffset
	}
	if f.Key != nil {
		set["key"] = clean(string(f.Key))
	}
	if f.Group != "" {
		set["group"] = f.Group
	}
	if len(f.Dispositions) > 0 {
		set["dispositions"] = f.Dispositions
	}
	if f.Error != "" {
		set["error"] = f.Error
	}
	if f.ErrorPattern != nil {
		set["error_pattern"] = f.ErrorPattern.String()
	}
	if !f.Since.IsZero() {
		set["since"] = f.Since.UTC()
	}
	if !f.Until.IsZero() {
		set["until"] = f.Until.UTC()
	}
	return set
}

// countFields are the counts that are not zero, by name.
func countFields(r *deadletter.Result) map[string]any {
	set := map[string]any{}
	for name, n := range map[string]int{
		"replayed": r.Replayed, "skipped": r.Skipped, "discarded": r.Discarded, "parked": r.Parked, "duplicates": r.Duplicates,
		"filtered": r.Filtered, "capped": r.Capped, "refused": r.Refused, "held": r.Held,
	} {
		if n > 0 {
			set[name] = n
		}
	}
	if len(r.Stopped) > 0 {
		set["stopped"] = len(r.Stopped)
	}
	return set
}

// clean makes text that Postgres accepts.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
