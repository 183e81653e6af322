package inbox

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// pruneBatch is how many rows one transaction of pruning replaces: some
// milliseconds of work.
const pruneBatch = 1000

// Run prunes at once and then every PruneEvery until ctx ends, and returns nil then: it
// replaces the rows of the group that are older than Retention, as the package
// describes. It works in many small transactions, and consumers go on. Errors are
// reported to Hooks.Pruned. Any number of processes may run it.
func (i *Inbox) Run(ctx context.Context) error {
	for {
		rows, err := i.prune(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if rows > 0 || err != nil {
			i.cfg.Hooks.Pruned(rows, err)
		}
		timer := time.NewTimer(i.cfg.PruneEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// prune replaces the rows of the group that are older than Retention, as the
// package describes, and returns how many. It works in many small transactions;
// consumers go on meanwhile.
func (i *Inbox) prune(ctx context.Context) (rows int, err error) {
	sources, err := i.allSources(ctx)
	if err != nil {
		return 0, fmt.Errorf("prune inbox: %w", err)
	}
	for _, source := range sources {
		for {
			n, err := i.pruneSome(ctx, source)
			rows += n
			if err != nil {
				return rows, fmt.Errorf("prune inbox: %w", err)
			}
			if n < pruneBatch {
				break
			}
		}
	}
	return rows, nil
}

func (i *Inbox) allSources(ctx context.Context) (ids []int32, err error) {
	rows, err := i.db.QueryContext(ctx, sourcesOf, i.group)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int32
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// pruneSome is one transaction.
func (i *Inbox) pruneSome(ctx context.Context, source int32) (n int, err error) {
	tx, err := i.db.BeginTx(ctx, readCommitted)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }() // nothing to do after a commit
	var alone bool
	if err := tx.QueryRowContext(ctx, pruneAlone, source).Scan(&alone); err != nil || !alone {
		return 0, err
	}
	offsets, versions, n, err := takeRows(ctx, tx, source, i.cfg.Retention)
	if err != nil || n == 0 {
		return 0, err
	}
	if err := fold(ctx, tx, source, offsets, cmp.Compare[int32], foldOffsets); err != nil {
		return 0, err
	}
	compare := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
	if err := fold(ctx, tx, source, versions, compare, foldVersions); err != nil {
		return 0, err
	}
	return n, tx.Commit()
}

// takeRows removes old rows and returns what they say.
func takeRows(ctx context.Context, tx *sql.Tx, source int32, retention time.Duration) (offsets []span[int32], versions []span[uuid.UUID], n int, err error) {
	rows, err := tx.QueryContext(ctx, takeOld, source, retention.Microseconds(), pruneBatch)
	if err != nil {
		return nil, nil, 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var partition int32
		var offset, version int64
		var aggregate uuid.UUID
		if err := rows.Scan(&partition, &offset, &aggregate, &version); err != nil {
			return nil, nil, 0, err
		}
		if partition >= 0 && offset >= 0 {
			offsets = append(offsets, span[int32]{partition, offset, offset + 1})
		}
		if version > 0 {
			versions = append(versions, span[uuid.UUID]{aggregate, version, version + 1})
		}
	}
	return offsets, versions, n, rows.Err()
}

// folding is the statements for one of the two kinds of ranges.
type folding struct{ near, drop, add string }

var (
	foldOffsets  = folding{nearOffsets, dropOffsets, addOffsets}
	foldVersions = folding{nearVersions, dropVersions, addVersions}
)

// fold adds spans to the ranges that are stored, joining what touches.
func fold[K comparable](ctx context.Context, tx *sql.Tx, source int32, spans []span[K], compare func(a, b K) int, f folding) error {
	if len(spans) == 0 {
		return nil
	}
	spans = join(spans, compare)
	of, first, next := split(spans)
	near, err := readSpans[K](tx.QueryContext(ctx, f.near, source, pq.Array(of), pq.Array(first), pq.Array(next)))
	if err != nil {
		return err
	}
	if len(near) > 0 {
		of, first, _ := split(near)
		if _, err := tx.ExecContext(ctx, f.drop, source, pq.Array(of), pq.Array(first)); err != nil {
			return err
		}
	}
	of, first, next = split(join(append(spans, near...), compare))
	_, err = tx.ExecContext(ctx, f.add, source, pq.Array(of), pq.Array(first), pq.Array(next))
	return err
}

func split[K comparable](spans []span[K]) (of []K, first, next []int64) {
	for _, s := range spans {
		of, first, next = append(of, s.of), append(first, s.first), append(next, s.next)
	}
	return of, first, next
}

func readSpans[K comparable](rows *sql.Rows, err error) (spans []span[K], _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s span[K]
		if err := rows.Scan(&s.of, &s.first, &s.next); err != nil {
			return nil, err
		}
		spans = append(spans, s)
	}
	return spans, rows.Err()
}
