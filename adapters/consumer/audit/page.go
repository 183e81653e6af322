package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/adapters/consumer"
)

// ErrAbandoned means that an act was recorded as abandoned while it was still
// under way: it had shown no sign of life, and others may be at the topic.
var ErrAbandoned = errors.New("audit: the act was taken for abandoned, having shown no sign of life")

// page implements consumer.Page.
type page struct {
	book *Book
	id   int64
	act  consumer.Act

	stop context.CancelFunc
	kept sync.WaitGroup
}

// keepAlive shows a sign of life now and then, until Close or until ctx ends. One
// that fails is made up for by the next.
func (p *page) keepAlive(ctx context.Context) {
	ctx, p.stop = context.WithCancel(ctx)
	p.kept.Go(func() {
		tick := time.NewTicker(p.book.cfg.Alive / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = p.book.inTx(ctx, func(tx *sql.Tx) error { return p.mine(tx.QueryRowContext(ctx, aliveSQL, p.id, p.book.seconds())) })
			}
		}
	})
}

// mine reports ErrAbandoned if a conditional update has found no open row.
func (p *page) mine(row *sql.Row) error {
	var id int64
	err := row.Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrAbandoned
	}
	return err
}

// Forget implements consumer.Page.
func (p *page) Forget(ctx context.Context, first map[int32]int64) error {
	var partitions []int32
	var offsets []int64
	for partition, offset := range first {
		partitions, offsets = append(partitions, partition), append(offsets, offset)
	}
	err := p.book.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, forgetSQL, p.act.Topic, pq.Array(partitions), pq.Array(offsets))
		return err
	})
	if err != nil {
		return fmt.Errorf("forget decisions on %s: %w", p.act.Topic, err)
	}
	return nil
}

// Write implements consumer.Page.
func (p *page) Write(ctx context.Context, decisions []consumer.Decision, counts consumer.ReplayResult) error {
	n := len(decisions)
	partitions, offsets := make([]int32, n), make([]int64, n)
	written, states, groups, events := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, d := range decisions {
		partitions[i], offsets[i], written[i] = d.Partition, d.Offset, d.WrittenAt.UTC().Format(time.RFC3339Nano)
		states[i], groups[i], events[i] = string(d.State), clean(d.Group), clean(d.EventID)
	}
	summary, err := json.Marshal(countsOf(&counts))
	if err != nil {
		return fmt.Errorf("record decisions: %w", err)
	}
	err = p.book.inTx(ctx, func(tx *sql.Tx) error {
		row := tx.QueryRowContext(ctx, countSQL, p.id, p.book.seconds(), counts.Letters, counts.Done(), string(summary))
		if err := p.mine(row); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, decideSQL, p.act.Topic, pq.Array(partitions), pq.Array(offsets), pq.Array(written),
			pq.Array(states), pq.Array(groups), pq.Array(events), p.id)
		return err
	})
	if err != nil {
		return fmt.Errorf("record decisions: %w", err)
	}
	return nil
}

// Close implements consumer.Page.
func (p *page) Close(ctx context.Context, counts consumer.ReplayResult, cause error) error {
	p.stop()
	p.kept.Wait()
	outcome, why := "done", ""
	if cause != nil {
		outcome, why = "failed", clean(cause.Error())
	}
	summary, err := json.Marshal(countsOf(&counts))
	if err != nil {
		return fmt.Errorf("record end of act: %w", err)
	}
	err = p.book.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, closeSQL, p.id, counts.Letters, counts.Done(), string(summary), outcome, why)
		return err
	})
	if err != nil {
		return fmt.Errorf("record end of act: %w", err)
	}
	return nil
}
