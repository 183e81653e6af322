package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/internal/missing"
)

// bulkEffect is Effect for many messages.
type bulkEffect func(ctx context.Context, tx *sql.Tx, msgs []*message.Message) error

// Bulk is Batch for an effect of many messages, all of them new, in order: one
// statement can then write the rows of all. If effect fails, it is called again for
// each half of the batch, and so on, until only single messages fail.
func (i *Inbox) Bulk(effect func(ctx context.Context, tx *sql.Tx, msgs []*message.Message) error) consumer.BatchFunc {
	if effect == nil {
		return missing.Batch
	}
	return i.bulk(effect)
}

func (i *Inbox) bulk(effect bulkEffect) consumer.BatchFunc {
	return i.batches(func(ctx context.Context, tx *sql.Tx, w *work, todo []*item) error {
		if w.careful {
			for at := 0; at < len(todo); at += chunk {
				set := nextSavepoint
				if at == 0 {
					set = savepoint
				}
				if err := effect.halve(ctx, tx, w, set, todo[at:min(at+chunk, len(todo))]); err != nil {
					return err
				}
			}
			return nil
		}
		if err := effect.call(ctx, tx, todo); err != nil {
			return w.broken(ctx, todo, err)
		}
		return nil
	})
}

// broken is what to do about a failure that may be any item's.
func (w *work) broken(ctx context.Context, items []*item, err error) error {
	if ctx.Err() != nil || serialization(err) {
		return err
	}
	if len(items) == 1 {
		w.leaveOut(items[0], err)
	}
	return errBroken
}

// halve makes the effect of items behind a savepoint, or of each half, and so on.
func (effect bulkEffect) halve(ctx context.Context, tx *sql.Tx, w *work, set string, items []*item) error {
	var todo []*item
	for _, it := range items {
		if !it.failed {
			todo = append(todo, it)
		}
	}
	if _, err := tx.ExecContext(ctx, set); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	err := effect.call(ctx, tx, todo)
	if err == nil {
		return nil
	}
	if err := w.broken(ctx, todo, err); !errors.Is(err, errBroken) {
		return err
	}
	w.broke = true
	if _, err := tx.ExecContext(ctx, toSavepoint); err != nil {
		return fmt.Errorf("back to the savepoint: %w", err)
	}
	if len(todo) == 1 {
		return nil
	}
	half := len(todo) / 2
	if err := effect.halve(ctx, tx, w, nextSavepoint, todo[:half]); err != nil {
		return err
	}
	return effect.halve(ctx, tx, w, nextSavepoint, todo[half:])
}

// call calls the effect; its panic is an error.
func (effect bulkEffect) call(ctx context.Context, tx *sql.Tx, items []*item) (err error) {
	if len(items) == 0 {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = &consumer.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	msgs := make([]*message.Message, len(items))
	for n, it := range items {
		msgs[n] = it.msg
	}
	return effect(ctx, tx, msgs)
}
