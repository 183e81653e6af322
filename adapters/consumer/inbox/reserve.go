package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// columns are items as parameters of a statement.
type columns struct {
	ids, aggregates   []string
	partitions        []int32
	offsets, versions []int64
}

func columnsOf(items []*item) (c columns) {
	for _, it := range items {
		c.ids, c.aggregates = append(c.ids, it.id.String()), append(c.aggregates, it.aggregate.String())
		c.partitions = append(c.partitions, it.partition)
		c.offsets, c.versions = append(c.offsets, it.offset), append(c.versions, it.version)
	}
	return c
}

// reserve adds the events of w to the inbox and marks as its own those that are
// neither there nor were done long ago.
func (i *Inbox) reserve(ctx context.Context, tx *sql.Tx, w *work) error {
	var given []*item
	for _, it := range w.items {
		it.mine = false
		if !it.failed {
			given = append(given, it)
		}
	}
	if len(given) == 0 {
		return nil
	}
	fresh, err := i.insert(ctx, tx, w.source, given)
	if err != nil {
		return fmt.Errorf("reserve events: %w", err)
	}
	var old []*item
	for _, it := range given {
		if !fresh[it.id] {
			continue
		}
		delete(fresh, it.id) // a second one of this id in the batch is a duplicate
		it.mine = true
		if !it.young {
			old = append(old, it)
		}
	}
	return forget(ctx, tx, w.source, old)
}

// insert returns the ids that were not in the inbox.
func (i *Inbox) insert(ctx context.Context, tx *sql.Tx, source int32, items []*item) (map[uuid.UUID]bool, error) {
	idle := sql.NullString{String: strconv.FormatInt(i.cfg.IdleTimeout.Milliseconds(), 10), Valid: i.cfg.IdleTimeout > 0}
	if len(items) == 1 {
		it := items[0]
		rows, err := i.reserveOne.QueryTx(ctx, tx, source, idle, it.id.String(), it.partition, it.offset, it.aggregate.String(), it.version)
		return readIDs(rows, err, 1)
	}
	c := columnsOf(items)
	rows, err := i.reserveMany.QueryTx(ctx, tx, source, idle,
		pq.Array(c.ids), pq.Array(c.partitions), pq.Array(c.offsets), pq.Array(c.aggregates), pq.Array(c.versions))
	return readIDs(rows, err, len(items))
}

// forget takes those items back that pruning has folded. Their rows stay: they
// say the same.
func forget(ctx context.Context, tx *sql.Tx, source int32, items []*item) error {
	if len(items) == 0 {
		return nil
	}
	c := columnsOf(items)
	rows, err := tx.QueryContext(ctx, folded, source,
		pq.Array(c.ids), pq.Array(c.partitions), pq.Array(c.offsets), pq.Array(c.aggregates), pq.Array(c.versions))
	done, err := readIDs(rows, err, 0)
	if err != nil {
		return fmt.Errorf("look for events done long ago: %w", err)
	}
	for _, it := range items {
		it.mine = !done[it.id]
	}
	return nil
}

func readIDs(rows *sql.Rows, err error, size int) (map[uuid.UUID]bool, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ids := make(map[uuid.UUID]bool, size)
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids[id] = true
	}
	return ids, rows.Err()
}

// unreserve removes what this transaction reserved and then left out.
func (w *work) unreserve(ctx context.Context, tx *sql.Tx) error {
	var ids []string
	for _, it := range w.items {
		if it.mine && it.failed {
			ids = append(ids, it.id.String())
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, unreserve, w.source, pq.Array(ids)); err != nil {
		return fmt.Errorf("give up reservations: %w", err)
	}
	return nil
}
