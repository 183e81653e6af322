package watermillsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// ErrBusy means that Switch gave up: a transaction that has written to the stock
// table did not end in time. Nothing was changed; try again.
var ErrBusy = errors.New("a writer's transaction is still open")

// Switch moves the rest and ends the stock table, in one transaction that keeps
// writers out: from its commit on, publishers with Moving write to the outbox,
// and all other inserts into the stock table are refused. So each key's messages
// are in the outbox in their order, whichever way they took.
//
// Call it when Run has nothing left to do, or it moves the rest first: the time
// that writers wait is that of the last rows, and of the transactions under way.
// It waits for them SwitchTimeout at a time, SwitchTries times, and lets writers
// on between: some may hold what those under way wait for. Then it gives up with
// ErrBusy. Switching again does nothing. It needs the ownership of the stock table.
func (i *Importer) Switch(ctx context.Context) (ImportResult, error) {
	var done ImportResult
	for try := 1; ; try++ {
		more, err := i.Once(ctx)
		done = ImportResult{done.Moved + more.Moved, done.Passed + more.Passed, done.Batches + more.Batches}
		if err != nil {
			return done, err
		}
		var b batch
		err = i.inTx(ctx, func(tx *sql.Tx) (err error) {
			b, err = i.seal(ctx, tx)
			return err
		})
		if err == nil {
			i.count(&done, b)
			return done, nil
		}
		busy := pq.As(err, pqerror.LockNotAvailable, pqerror.TRDeadlockDetected) != nil
		if busy {
			err = errors.Join(ErrBusy, err)
		}
		if !busy || try == i.cfg.SwitchAttempts {
			return done, fmt.Errorf("switch %s to the outbox: %w", i.stock.messages, err)
		}
		select {
		case <-ctx.Done():
			return done, ctx.Err()
		case <-time.After(i.cfg.Poll):
		}
	}
}

// seal is the transaction of Switch. With the lock no writer is under way, so
// that every row that is there is decided.
func (i *Importer) seal(ctx context.Context, tx *sql.Tx) (b batch, err error) {
	timeout := strconv.FormatInt(i.cfg.SwitchTimeout.Milliseconds(), 10)
	if _, err := tx.ExecContext(ctx, lockTimeoutSQL, timeout); err != nil {
		return b, err
	}
	if _, err := tx.ExecContext(ctx, i.stock.text(lockStockSQL)); err != nil {
		return b, err
	}
	newest := "0"
	err = tx.QueryRowContext(ctx, i.stock.text(newestSQL)).Scan(&newest)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return b, err
	}
	if b, err = i.move(ctx, tx, newest); err != nil {
		return b, err
	}
	var moved bool
	if err := tx.QueryRowContext(ctx, movedSQL, i.stock.messages).Scan(&moved); err != nil || moved {
		return b, err
	}
	if _, err := tx.ExecContext(ctx, refuseStockSQL); err != nil {
		return b, err
	}
	_, err = tx.ExecContext(ctx, i.stock.text(sealStockSQL))
	return b, err
}
