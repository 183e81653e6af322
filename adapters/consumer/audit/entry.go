package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/millrace-go/millrace/adapters/consumer"
)

// Entry is one act as the book has it.
type Entry struct {
	ID        int64           `json:"id"`
	Act       string          `json:"act"` // dlt-replay-id of what it sent
	Actor     string          `json:"actor"`
	Action    consumer.Action `json:"action"`
	Topic     string          `json:"topic"` // the dead-letter topic
	Filter    json.RawMessage `json:"filter"`
	Note      string          `json:"note"`
	Letters   int64           `json:"letters"` // open letters that it met
	Done      int64           `json:"done"`    // of them dealt with
	Counts    json.RawMessage `json:"counts"`
	Outcome   string          `json:"outcome"` // running, done, failed, abandoned
	Error     string          `json:"error,omitempty"`
	StartedAt time.Time       `json:"started_at"`
	EndedAt   *time.Time      `json:"ended_at"` // null while it runs
}

// List returns the newest acts first, at most limit; topic is a dead-letter topic,
// empty for all.
func (b *Book) List(ctx context.Context, topic string, limit int) ([]Entry, error) {
	rows, err := b.db.QueryContext(ctx, listSQL, topic, limit)
	if err != nil {
		return nil, fmt.Errorf("list acts: %w", err)
	}
	defer rows.Close()
	all := []Entry{}
	for rows.Next() {
		var e Entry
		var ended sql.NullTime
		if err := rows.Scan(&e.ID, &e.Act, &e.Actor, &e.Action, &e.Topic, &e.Filter, &e.Note, &e.Letters, &e.Done, &e.Counts,
			&e.Outcome, &e.Error, &e.StartedAt, &ended); err != nil {
			return nil, fmt.Errorf("list acts: %w", err)
		}
		if ended.Valid {
			e.EndedAt = &ended.Time
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

// filterOf is a filter as the audit shows it: what is set, in words.
func filterOf(f *consumer.Filter) map[string]any {
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

// countsOf is a result as the audit shows it: what is not zero.
func countsOf(r *consumer.ReplayResult) map[string]any {
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

// clean makes text that Postgres takes.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
