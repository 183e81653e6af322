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

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

// ErrAbandoned means that an operation was recorded as abandoned while it was still
// running: its lease had ended, and another operation may be working on the topic.
var ErrAbandoned = errors.New("audit: the operation was recorded as abandoned, as its lease had ended")

// runningEntry implements deadletter.Entry.
type runningEntry struct {
	log *store
	id  int64
	op  deadletter.Operation

	stop     context.CancelFunc
	renewing sync.WaitGroup
}

// startRenewing renews the lease until Close, or until ctx ends. If a renewal fails
// the next one makes up for it.
func (e *runningEntry) startRenewing(ctx context.Context) {
	ctx, e.stop = context.WithCancel(ctx)
	e.renewing.Go(func() {
		tick := time.NewTicker(e.log.lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = e.log.inTx(ctx, func(tx *sql.Tx) error { return e.own(tx.QueryRowContext(ctx, renewSQL, e.id, e.log.leaseSeconds())) })
			}
		}
	})
}

// own returns ErrAbandoned if a conditional update has found no running entry.
func (e *runningEntry) own(row *sql.Row) error {
	var id int64
	err := row.Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrAbandoned
	}
	return err
}

// Forget implements deadletter.Entry.
func (e *runningEntry) Forget(ctx context.Context, first map[int32]int64) error {
	var partitions []int32
	var offsets []int64
	for partition, offset := range first {
		partitions, offsets = append(partitions, partition), append(offsets, offset)
	}
	err := e.log.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, forgetSQL, e.op.Topic, pq.Array(partitions), pq.Array(offsets))
		return err
	})
	if err != nil {
		return fmt.Errorf("forget decisions on %s: %w", e.op.Topic, err)
	}
	return nil
}

// Write implements deadletter.Entry.
func (e *runningEntry) Write(ctx context.Context, decisions []deadletter.Decision, counts deadletter.Result) error {
	n := len(decisions)
	partitions, offsets := make([]int32, n), make([]int64, n)
	written, states, groups, events := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, d := range decisions {
		partitions[i], offsets[i], written[i] = d.Partition, d.Offset, d.WrittenAt.UTC().Format(time.RFC3339Nano)
		states[i], groups[i], events[i] = string(d.State), clean(d.Group), clean(d.EventID)
	}
	summary, err := json.Marshal(countFields(&counts))
	if err != nil {
		return fmt.Errorf("record decisions: %w", err)
	}
	err = e.log.inTx(ctx, func(tx *sql.Tx) error {
		row := tx.QueryRowContext(ctx, countSQL, e.id, e.log.leaseSeconds(), counts.Open, counts.Resolved(), string(summary))
		if err := e.own(row); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, decideSQL, e.op.Topic, pq.Array(partitions), pq.Array(offsets), pq.Array(written),
			pq.Array(states), pq.Array(groups), pq.Array(events), e.id)
		return err
	})
	if err != nil {
		return fmt.Errorf("record decisions: %w", err)
	}
	return nil
}

// Close implements deadletter.Entry.
func (e *runningEntry) Close(ctx context.Context, counts deadletter.Result, cause error) error {
	e.stop()
	e.renewing.Wait()
	outcome, why := "done", ""
	if cause != nil {
		outcome, why = "failed", clean(cause.Error())
	}
	summary, err := json.Marshal(countFields(&counts))
	if err != nil {
		return fmt.Errorf("record the end of the operation: %w", err)
	}
	err = e.log.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, closeSQL, e.id, counts.Open, counts.Resolved(), string(summary), outcome, why)
		return err
	})
	if err != nil {
		return fmt.Errorf("record the end of the operation: %w", err)
	}
	return nil
}
