package watermillsql

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Watermill-sql's acknowledged offset is a position in the order of transaction ids.
// That is not the order of commits: a transaction may get its id early and then wait
// for a row that a transaction with a later id changes first. The rows' "offset" is
// in the order of commits for each key, because it is drawn while the key's row is
// locked. So rows are moved in the order of "offset", and the table is cut only at
// transactions where no key has a row behind the cut with a smaller "offset" than one
// before it.
//
// Rows that are not visible yet do no harm: where a later change of a key is visible,
// the earlier ones are too. But an earlier one need not be decided: its transaction
// id may be above that of a transaction that still runs.

// cuts returns decided transactions to cut at, in rising order, with about BatchSize
// rows between them. None means that nothing can be moved now.
func (i *Importer) cuts(ctx context.Context, from mark) ([]string, error) {
	clean, err := i.cleanCuts(ctx, from)
	if err != nil || len(clean) > 0 {
		return clean, err
	}
	var xid uint64
	err = i.inTx(ctx, func(tx *sql.Tx) error {
		tail, err := i.readTail(ctx, tx, from)
		xid = tail.cut()
		return err
	})
	if err != nil || xid == 0 {
		return nil, err
	}
	return []string{strconv.FormatUint(xid, 10)}, nil
}

// cleanCuts returns the cuts where every row before has a smaller "offset" than every
// row behind, whatever their keys. Under load there may be none for a long time.
func (i *Importer) cleanCuts(ctx context.Context, from mark) (cuts []string, err error) {
	rows, err := i.db.QueryContext(ctx, i.stock.text(cutsSQL), from.offset, from.xid)
	if err != nil {
		return nil, fmt.Errorf("plan the import: %w", err)
	}
	defer rows.Close()
	var xid string
	var upTo, done int64
	for rows.Next() {
		if err := rows.Scan(&xid, &upTo); err != nil {
			return nil, fmt.Errorf("plan the import: %w", err)
		}
		if upTo-done >= int64(i.cfg.BatchSize) {
			cuts, done = append(cuts, xid), upTo
		}
	}
	if upTo > done {
		cuts = append(cuts, xid)
	}
	return cuts, rows.Err()
}

// tail is what cut chooses from where there is no clean cut.
type tail struct {
	decided   []uint64          // transactions
	newest    map[string]uint64 // of each key among the rows so far
	forbidden []span
}

// span forbids the cuts from lo up to, but not including, hi.
type span struct{ lo, hi uint64 }

func (i *Importer) readTail(ctx context.Context, tx *sql.Tx, from mark) (tail, error) {
	t := tail{newest: map[string]uint64{}}
	if _, err := tx.ExecContext(ctx, i.stock.text(openTailSQL), from.offset, from.xid); err != nil {
		return t, fmt.Errorf("plan the import: %w", err)
	}
	for {
		n, err := i.fetchTail(ctx, tx, &t)
		if err != nil {
			return t, fmt.Errorf("plan the import: %w", err)
		}
		if n == 0 {
			return t, nil
		}
	}
}

func (i *Importer) fetchTail(ctx context.Context, tx *sql.Tx, t *tail) (n int, err error) {
	rows, err := tx.QueryContext(ctx, fmt.Sprintf(fetchRowsSQL, i.cfg.BatchSize))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for ; rows.Next(); n++ {
		var r StockRow
		var decided bool
		if err := rows.Scan(&r.Offset, &r.TransactionID, &r.UUID, &r.Payload, &r.Metadata, &r.CreatedAt, &decided); err != nil {
			return n, err
		}
		xid, err := strconv.ParseUint(r.TransactionID, 10, 64)
		if err != nil {
			return n, fmt.Errorf("transaction id: %w", err)
		}
		var key string
		if m, err := i.message(r); err == nil { // otherwise move reports it
			key = m.Key
		}
		t.add(xid, key, decided)
	}
	return n, rows.Err()
}

// add adds the row with the next higher "offset". A row without a key forbids nothing.
func (t *tail) add(xid uint64, key string, decided bool) {
	if decided {
		t.decided = append(t.decided, xid)
	}
	if key == "" {
		return
	}
	if newest := t.newest[key]; newest > xid {
		t.forbidden = append(t.forbidden, span{xid, newest})
	} else {
		t.newest[key] = xid
	}
}

// cut returns the highest decided transaction that no span forbids, or 0.
func (t *tail) cut() uint64 {
	slices.Sort(t.decided)
	slices.SortFunc(t.forbidden, func(a, b span) int { return cmp.Compare(b.hi, a.hi) })
	spans := t.forbidden
	var lowest uint64 // lowest lo of the spans that reach above xid
	for _, xid := range slices.Backward(slices.Compact(t.decided)) {
		for ; len(spans) > 0 && spans[0].hi > xid; spans = spans[1:] {
			if lowest == 0 || spans[0].lo < lowest {
				lowest = spans[0].lo
			}
		}
		if lowest == 0 || lowest > xid {
			return xid
		}
	}
	return 0
}
