package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

var readCommitted = &sql.TxOptions{Isolation: sql.LevelReadCommitted}

// chunk is how many effects share a savepoint: so many are made again, at most,
// for each one that fails. A batch of 500 stays below the 64 subtransactions that
// Postgres keeps in memory for others.
const chunk = 16

// work is what one transaction is to do.
type work struct {
	topic   string
	source  int32
	items   []*item
	single  bool // one message: its failure is the work's
	careful bool // with savepoints
	broke   bool // an effect failed that had used the transaction

	// make makes the effects of the given items, which are reserved.
	make func(ctx context.Context, tx *sql.Tx, w *work, todo []*item) error

	began    time.Time
	attempts int
}

// errBroken means that an effect failed and may have changed something, so that
// the transaction cannot go on: it is done again without that message.
var errBroken = errors.New("an effect failed")

// do runs w until a transaction of it has committed, or gives up.
func (i *Inbox) do(ctx context.Context, w *work) (err error) {
	w.began = time.Now()
	if w.source, err = i.source(ctx, w.topic); err != nil {
		return err
	}
	for retries := 0; ; {
		w.attempts++
		err := i.once(ctx, w)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errBroken):
			if w.single {
				return nil // the message has its error
			}
			w.careful, w.broke = true, true
		case ctx.Err() != nil:
			return fmt.Errorf("inbox: %w", ended(ctx))
		case retries >= i.cfg.Retries || !worthRetrying(err) || !i.pause(ctx, retries):
			return fmt.Errorf("inbox: %w", err)
		default:
			retries++
		}
	}
}

// once is one transaction.
func (i *Inbox) once(ctx context.Context, w *work) error {
	tx, err := i.db.BeginTx(ctx, readCommitted)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after an error or a panic; nothing to do after a commit
	if err := i.reserve(ctx, tx, w); err != nil {
		return err
	}
	if err := w.apply(ctx, tx); err != nil {
		return err
	}
	if err := w.unreserve(ctx, tx); err != nil {
		return err
	}
	done := w.count()
	done.Group, done.Attempts = i.group, w.attempts
	if w.changes() {
		began := time.Now()
		if err := i.commit(ctx, tx, w); err != nil {
			return err
		}
		done.CommitTook = time.Since(began)
	}
	done.Took = time.Since(w.began)
	if done.Applied > 0 {
		i.cfg.Committed()
	}
	i.cfg.Hooks.Committed(done)
	return nil
}

// apply makes the effects of the reserved items, in order.
func (w *work) apply(ctx context.Context, tx *sql.Tx) error {
	var todo []*item
	for _, it := range w.items {
		if it.mine && !it.failed {
			todo = append(todo, it)
		}
	}
	return w.make(ctx, tx, w, todo)
}

// leaveOut fails an item, and those of its key behind it.
func (w *work) leaveOut(failed *item, err error) {
	failed.failed, failed.err = true, err
	if !failed.keyed {
		return
	}
	behind := false
	for _, it := range w.items {
		if behind && it.keyed && it.key == failed.key {
			it.failed = true
		}
		behind = behind || it == failed
	}
}

// changes reports whether there is anything to commit.
func (w *work) changes() bool {
	for _, it := range w.items {
		if it.mine && !it.failed {
			return true
		}
	}
	return false
}

func (w *work) count() Commit {
	c := Commit{Topic: w.topic}
	for _, it := range w.items {
		switch {
		case it.failed:
			c.Failed++
		case it.mine || it.before:
			c.Applied++
		default:
			c.Duplicates++
		}
	}
	return c
}
