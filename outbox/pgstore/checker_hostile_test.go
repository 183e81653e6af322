package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lib/pq/pqerror"
)

// prepareTransaction leaves the transaction to be ended by another session.
func (w *writer) prepareTransaction(ctx context.Context) error {
	name := fmt.Sprintf("ledger_%d_%d", w.seed, w.rng.Uint64())
	if _, err := w.conn.ExecContext(ctx, "PREPARE TRANSACTION '"+name+"'"); err != nil {
		return err
	}
	w.count("prepared transactions")
	w.prepared <- name
	return nil
}

// resolve ends prepared transactions after a while, and at the end all of them.
func (c *checker) resolve(ctx context.Context, rng *rand.Rand) error {
	for name := range c.prepared {
		wait(c.stop, time.Duration(rng.IntN(100))*time.Millisecond)
		how := "COMMIT PREPARED"
		if chance(rng, 25) {
			how = "ROLLBACK PREPARED"
		}
		if _, err := c.admin.ExecContext(ctx, how+" '"+name+"'"); err != nil {
			return fmt.Errorf("end a prepared transaction: %w", err)
		}
	}
	return nil
}

// long writes transactions of 0.1 to 1.5 s. Half of them hold so many locks that
// the sequence's goes to the main lock table at once.
func (w *writer) long(ctx context.Context) error {
	defer w.drop()
	for !w.stopped() {
		if w.conn == nil {
			conn, err := w.writers.Conn(ctx)
			if err != nil {
				return fmt.Errorf("connect a writer: %w", err)
			}
			w.conn = conn
		}
		if err := w.recover(ctx, w.longTransaction(ctx)); err != nil {
			return err
		}
		wait(w.stop, time.Duration(w.rng.IntN(300))*time.Millisecond)
	}
	return nil
}

func (w *writer) longTransaction(ctx context.Context) error {
	w.count("long transactions")
	script := []string{"BEGIN"}
	if chance(w.rng, 50) {
		for i := range fastPathSlots + 2 {
			script = append(script, fmt.Sprintf("LOCK TABLE ledger_slot_%d IN ACCESS SHARE MODE", i))
		}
	}
	key := w.pick(w.rng)[0]
	for _, query := range append(script, bump(key, 3), w.insert(key, 3, ""), "", bump(key, 1), w.insert(key, 1, ""), "") {
		if query == "" {
			wait(w.stop, time.Duration(50+w.rng.IntN(700))*time.Millisecond)
			continue
		}
		if _, err := w.conn.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	return w.end(ctx)
}

// every calls act in random intervals around d until the checker stops.
func (c *checker) every(d time.Duration, act func(context.Context, *rand.Rand) error) func(context.Context, *rand.Rand) error {
	return func(ctx context.Context, rng *rand.Rand) error {
		for wait(c.stop, d/2+time.Duration(rng.Int64N(int64(d)))) {
			if err := act(ctx, rng); err != nil {
				return err
			}
		}
		return nil
	}
}

// terminate ends a writer's backend, wherever it is.
func (c *checker) terminate(ctx context.Context, _ *rand.Rand) error {
	_, err := c.admin.ExecContext(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'ledger writer' ORDER BY random() LIMIT 1`)
	return err
}

// lockHard asks for locks that conflict with the writers', and mostly gives up.
// The attempt alone moves their fast-path locks to the main table.
func (c *checker) lockHard(ctx context.Context, rng *rand.Rand) error {
	query := "ALTER SEQUENCE outbox_position_seq NO CYCLE"
	if chance(rng, 30) {
		query = "LOCK TABLE outbox IN SHARE MODE"
	}
	end := []string{"COMMIT", "ROLLBACK"}[rng.IntN(2)]
	_, err := c.hard.ExecContext(ctx, "BEGIN; SET LOCAL lock_timeout = '3ms'; "+query+"; "+end)
	if err == nil {
		c.count("strong locks had")
		return nil
	}
	c.count("strong locks tried")
	if _, rollback := c.hard.ExecContext(ctx, "ROLLBACK"); rollback != nil {
		return rollback
	}
	return ignore(err, pqerror.LockNotAvailable, pqerror.TRDeadlockDetected)
}

func (c *checker) vacuum(ctx context.Context, rng *rand.Rand) error {
	c.count("vacuums")
	_, err := c.admin.ExecContext(ctx, []string{"VACUUM ledger_keys", "VACUUM ANALYZE outbox"}[rng.IntN(2)])
	return err
}

func (c *checker) maintain(ctx context.Context, _ *rand.Rand) error { return makeLeaves(ctx, c.admin) }

// idle holds an old snapshot for some seconds, again and again.
func (c *checker) idle(ctx context.Context, _ *rand.Rand) error {
	tx, err := c.admin.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var n int
	err = tx.QueryRowContext(ctx, "SELECT count(*) FROM ledger_events").Scan(&n)
	wait(c.stop, 2*time.Second)
	return err
}

// elsewhere holds a write transaction open in another database for the whole run.
func (c *checker) elsewhere(ctx context.Context, _ *rand.Rand) error {
	tx, err := c.other.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	_, err = tx.ExecContext(ctx, "CREATE TEMPORARY TABLE elsewhere AS SELECT 1")
	<-c.stop
	return err
}
