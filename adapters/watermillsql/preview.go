package watermillsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// Preview is what an import would do, see Importer.Preview.
type Preview struct {
	Ready    int64       // rows that would be moved
	Waiting  int64       // rows that wait for an older transaction of the database to end
	Refused  []*RowError // rows that the outbox would not take, at most 100
	Switched bool        // Switch has been called
}

const maxRefused = 100

// Preview is the dry run: it unwraps and checks each row that Once would move now,
// lists those that the outbox would not take, and changes nothing.
func (i *Importer) Preview(ctx context.Context) (Preview, error) {
	p, err := i.preview(ctx)
	if err != nil {
		err = fmt.Errorf("preview the import from watermill-sql: %w", err)
	}
	return p, err
}

func (i *Importer) preview(ctx context.Context) (p Preview, err error) {
	if err := i.stock.check(ctx, i.db, i.cfg.ConsumerGroup, i.cfg.FromStart); err != nil {
		return p, err
	}
	tx, err := i.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, rollback(tx)) }()
	from, err := i.stock.mark(ctx, tx, i.cfg.ConsumerGroup, false)
	if err != nil {
		return p, err
	}
	if err := tx.QueryRowContext(ctx, movedSQL, i.stock.messages).Scan(&p.Switched); err != nil {
		return p, err
	}
	if err := tx.QueryRowContext(ctx, i.stock.text(pendingSQL), from.offset, from.xid).Scan(&p.Ready, &p.Waiting); err != nil {
		return p, err
	}
	var newest string
	err = tx.QueryRowContext(ctx, i.stock.text(newestDecidedSQL)).Scan(&newest)
	if errors.Is(err, sql.ErrNoRows) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	_, err = tx.ExecContext(ctx, i.stock.text(openRowsSQL), from.offset, from.xid, newest)
	for err == nil {
		var rows []StockRow
		if rows, err = i.fetch(ctx, tx); err != nil || len(rows) == 0 {
			break
		}
		i.check(rows, &p)
	}
	return p, err
}

// check adds the rows that the outbox would not take to p.
func (i *Importer) check(rows []StockRow, p *Preview) {
	for _, r := range rows {
		m, err := i.message(r)
		if err == nil {
			_, err = checked(outboxRows{m}, 0)
		}
		if err != nil && len(p.Refused) < maxRefused {
			p.Refused = append(p.Refused, &RowError{Table: i.stock.messages, Row: r, Err: err})
		}
	}
}

// temporary reports whether retrying may help: not for a row that needs a decision,
// nor for a statement that the server will never execute.
func temporary(err error) bool {
	var row *RowError
	if errors.As(err, &row) || errors.Is(err, ErrNoStockTable) || errors.Is(err, ErrUnknownGroup) {
		return false
	}
	return pq.As(err, pqerror.UndefinedTable, pqerror.UndefinedColumn, pqerror.InsufficientPrivilege) == nil
}
