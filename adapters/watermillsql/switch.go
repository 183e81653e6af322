package watermillsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
)

// ErrBusy means that Switch gave up, because a transaction that has written to the
// stock table did not end in time. Nothing was changed: try again.
var ErrBusy = errors.New("a writer's transaction is still open")

// Switch moves the remaining rows and ends the stock table, in one transaction that
// locks writers out. From its commit on, publishers with NewSwitchSchema write to the
// outbox, and every other insert into the stock table is refused. So the messages of
// each key are in the outbox in order, whether they were moved or written there.
//
// Call it when Run has little left to do. Writers wait while the last rows are moved
// and while open transactions that have written to the table end. Switch waits for
// those transactions for SwitchTimeout at a time, SwitchAttempts times. Between the
// attempts it lets writers continue, because one of them may hold a lock that such a
// transaction waits for. Then it gives up with ErrBusy.
//
// A second Switch does nothing. The role must own the stock table.
func (i *Importer) Switch(ctx context.Context) (ImportResult, error) {
	var done ImportResult
	for attempt := 1; ; attempt++ {
		more, err := i.Once(ctx)
		done = ImportResult{done.Moved + more.Moved, done.Skipped + more.Skipped, done.Batches + more.Batches}
		if err != nil {
			return done, err
		}
		var c counts
		err = i.inTx(ctx, func(tx *sql.Tx) (err error) {
			c, err = i.seal(ctx, tx)
			return err
		})
		if err == nil {
			i.count(&done, c)
			return done, nil
		}
		busy := pq.As(err, pqerror.LockNotAvailable, pqerror.TRDeadlockDetected) != nil
		if busy {
			err = errors.Join(ErrBusy, err)
		}
		if !busy || attempt == i.cfg.SwitchAttempts {
			return done, fmt.Errorf("switch %s to the outbox: %w", i.stock.messages, err)
		}
		if err := backoff.Sleep(ctx, i.cfg.Poll); err != nil {
			return done, err
		}
	}
}

// seal is the transaction of Switch. With the lock no writer's transaction is open,
// so every row that is there is decided.
func (i *Importer) seal(ctx context.Context, tx *sql.Tx) (c counts, err error) {
	timeout := strconv.FormatInt(i.cfg.SwitchTimeout.Milliseconds(), 10)
	if _, err := tx.ExecContext(ctx, lockTimeoutSQL, timeout); err != nil {
		return c, err
	}
	if _, err := tx.ExecContext(ctx, i.stock.text(lockStockSQL)); err != nil {
		return c, err
	}
	newest := "0"
	err = tx.QueryRowContext(ctx, i.stock.text(newestSQL)).Scan(&newest)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return c, err
	}
	if c, err = i.move(ctx, tx, newest); err != nil {
		return c, err
	}
	var moved bool
	if err := tx.QueryRowContext(ctx, movedSQL, i.stock.messages).Scan(&moved); err != nil || moved {
		return c, err
	}
	if _, err := tx.ExecContext(ctx, refuseStockSQL); err != nil {
		return c, err
	}
	_, err = tx.ExecContext(ctx, i.stock.text(sealStockSQL))
	return c, err
}
