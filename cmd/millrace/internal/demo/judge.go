package demo

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	"github.com/millrace-go/millrace/cmd/millrace/internal/latency"
)

// judge compares the database with what the observer saw in Kafka, with what is in
// Redis, and with what the gateway delivered.
func (s *show) judge(ctx context.Context) (*Report, error) {
	truth, err := s.truth(ctx)
	if err != nil {
		return nil, err
	}
	v := s.obs.tally.Judge(truth)
	checked, wrong, err := s.checkViews(ctx)
	if err != nil {
		return nil, err
	}
	viewsWrong := len(wrong)
	sends, unsent, err := s.checkSends(ctx)
	if err != nil {
		return nil, err
	}
	wrong = append(wrong, unsent...)
	r := &Report{
		Committed: v.Committed, Delivered: v.Delivered + v.Ghosts, Lost: v.Lost, Reordered: v.Reordered, Duplicates: v.Duplicates,
		Planted: s.load.planted(), DeadLettered: s.obs.deadLetters(), Replayed: s.obs.replayed(),
		ViewsChecked: checked, ViewsWrong: viewsWrong, Sends: sends,
		Latency: Latency{latency.Milliseconds(s.delay.Quantile(0.5)), latency.Milliseconds(s.delay.Quantile(0.99))},
		Servers: s.set.Names,

		answered: s.load.committed.Load(), rolled: s.load.rolled.Load(), ghosts: v.Ghosts,
		Witnesses: append(v.Witnesses, wrong[:min(len(wrong), 10)]...),
	}
	return r, nil
}

// truth reads from the outbox what was committed.
func (s *show) truth(ctx context.Context) ([]check.Event, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT event_id, key, aggregate_id, aggregate_version FROM outbox WHERE topic = $1`, s.topic)
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	defer rows.Close()
	var events []check.Event
	for rows.Next() {
		var id uuid.UUID
		var e check.Event
		if err := rows.Scan(&id, &e.Key, &e.Aggregate, &e.Version); err != nil {
			return nil, fmt.Errorf("read the outbox: %w", err)
		}
		e.ID = id
		events = append(events, e)
	}
	return events, rows.Err()
}
