package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/millrace-go/millrace/adapters/consumer"
)

// make makes the effect of each item, with savepoints if w is careful.
func (effect Effect) make(ctx context.Context, tx *sql.Tx, w *work, todo []*item) error {
	if !w.careful {
		return effect.makeAll(ctx, tx, w, todo)
	}
	set := savepoint
	for len(todo) > 0 {
		n := min(chunk, len(todo))
		if err := effect.makeChunk(ctx, tx, w, set, todo[:n]); err != nil {
			return err
		}
		set, todo = nextSavepoint, todo[n:]
	}
	return nil
}

// makeChunk makes some effects behind a savepoint. When one fails the others are
// made again from there.
func (effect Effect) makeChunk(ctx context.Context, tx *sql.Tx, w *work, set string, items []*item) error {
	if _, err := tx.ExecContext(ctx, set); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	for {
		err := effect.makeAll(ctx, tx, w, items)
		if !errors.Is(err, errBroken) {
			return err
		}
		w.broke = true
		if _, err := tx.ExecContext(ctx, toSavepoint); err != nil {
			return fmt.Errorf("back to the savepoint: %w", err)
		}
	}
}

// makeAll makes effects until one breaks the transaction.
func (effect Effect) makeAll(ctx context.Context, tx *sql.Tx, w *work, items []*item) error {
	for _, it := range items {
		if it.failed {
			continue
		}
		err := effect.call(tx, it)
		if err == nil {
			continue
		}
		if free, ok := err.(*untouched); ok && !w.single { //nolint:errorlint // Typed's own, as it returned it
			w.leaveOut(it, free.err)
			continue
		}
		return w.broken(ctx, []*item{it}, bare(err))
	}
	return nil
}

func bare(err error) error {
	if free, ok := err.(*untouched); ok { //nolint:errorlint // see makeAll
		return free.err
	}
	return err
}

// call calls the effect, within the message's own context; its panic is an error.
func (effect Effect) call(tx *sql.Tx, it *item) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &consumer.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return effect(it.msg.Context(), tx, it.msg)
}
