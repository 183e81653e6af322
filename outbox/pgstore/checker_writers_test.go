package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/outbox"
)

// writer writes transactions on a connection of its own. It bumps the versions
// of its keys first: that locks their rows, and so serializes the writers of a key.
type writer struct {
	*checker
	rng      *rand.Rand
	conn     *sql.Conn
	pick     func(*rand.Rand) []string // keys of a transaction, in locking order
	twoPhase bool
}

// run writes until the checker stops.
func (w *writer) run(ctx context.Context) error {
	defer w.drop()
	for !w.stopped() {
		if w.conn == nil {
			conn, err := w.writers.Conn(ctx)
			if err != nil {
				return fmt.Errorf("connect a writer: %w", err)
			}
			w.conn = conn
		}
		if err := w.recover(ctx, w.transaction(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// recover counts the errors that are part of the game and returns others.
func (w *writer) recover(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case gone(err):
		w.count("backends terminated")
		w.drop()
		return nil
	case pq.As(err, pqerror.TRDeadlockDetected) != nil:
		w.count("deadlocks")
	case pq.As(err, pqerror.CheckViolation) != nil, pq.As(err, pqerror.UndefinedTable) != nil:
		w.count("leaf inserts beyond the leaf")
	default:
		return fmt.Errorf("write: %w", err)
	}
	if _, err := w.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		w.drop()
	}
	return nil
}

// drop closes the connection, so that the next transaction has a fresh one.
func (w *writer) drop() {
	if w.conn != nil {
		_ = w.conn.Raw(func(any) error { return errDiscard })
		_ = w.conn.Close()
		w.conn = nil
	}
}

func (w *writer) transaction(ctx context.Context) error {
	if !w.twoPhase && chance(w.rng, 15) {
		return w.fromClient(ctx)
	}
	script, err := w.script(ctx)
	if err != nil {
		return err
	}
	if chance(w.rng, 60) {
		script = []string{strings.Join(script, ";\n")}
	}
	for _, query := range script {
		if _, err := w.conn.ExecContext(ctx, query); err != nil {
			return err
		}
		if chance(w.rng, 5) {
			wait(w.stop, time.Duration(w.rng.IntN(3000))*time.Microsecond)
		}
	}
	return w.end(ctx)
}

// script is a transaction without its end, as SQL.
func (w *writer) script(ctx context.Context) ([]string, error) {
	leaf, err := w.leaf(ctx)
	if err != nil {
		return nil, err
	}
	keys, n := w.pick(w.rng), w.rows()
	script := []string{"BEGIN"}
	for _, key := range keys {
		script = append(script, bump(key, n))
	}
	for _, key := range keys {
		script = append(script, w.insert(key, n, leaf))
	}
	if chance(w.rng, 15) {
		w.count("savepoints")
		script = append(script, "SAVEPOINT s", bump(keys[0], 2), w.insert(keys[0], 2, leaf))
		if chance(w.rng, 70) {
			script = append(script, "ROLLBACK TO SAVEPOINT s")
		}
	}
	return script, nil
}

// leaf names the partition that the next positions belong to, or is empty.
func (w *writer) leaf(ctx context.Context) (string, error) {
	if !chance(w.rng, 12) {
		return "", nil
	}
	var last int64
	err := w.conn.QueryRowContext(ctx, "SELECT last_value FROM outbox_position_seq").Scan(&last)
	return fmt.Sprintf("outbox_p%d", (last+1)/partitionSize*partitionSize), err
}

func (w *writer) rows() int {
	switch n := w.rng.IntN(100); {
	case n < 60:
		return 1
	case n < 90:
		return 2 + w.rng.IntN(5)
	default:
		return 20 + w.rng.IntN(40)
	}
}

func bump(key string, n int) string {
	return fmt.Sprintf("UPDATE ledger_keys SET version = version + %d WHERE key = '%s'", n, key)
}

// insert appends the n newest versions of a key, and the truth about it.
func (w *writer) insert(key string, n int, leaf string) string {
	versions := fmt.Sprintf("(SELECT key, version - %d + g AS version FROM ledger_keys, generate_series(1, %d) g WHERE key = '%s' ORDER BY g) v", n, n, key)
	if leaf == "" && chance(w.rng, 20) {
		w.count("function inserts")
		return "INSERT INTO ledger_events SELECT outbox_append('ledger', key, ''::bytea, aggregate_version => version), key, version FROM " + versions
	}
	if leaf == "" && chance(w.rng, 20) {
		w.count("trigger inserts")
		return "INSERT INTO ledger_events SELECT gen_random_uuid(), key, version, true FROM " + versions
	}
	if leaf == "" {
		leaf = "outbox"
	} else {
		w.count("leaf inserts")
	}
	return "WITH m AS (INSERT INTO " + leaf + " (topic, key, aggregate_version, payload) SELECT 'ledger', key, version, 'some payload'::bytea FROM " + versions +
		" RETURNING event_id, key, aggregate_version) INSERT INTO ledger_events SELECT * FROM m"
}

func (w *writer) end(ctx context.Context) error {
	if w.twoPhase {
		return w.prepareTransaction(ctx)
	}
	how := "COMMIT"
	if chance(w.rng, 20) {
		w.count("rollbacks")
		how = "ROLLBACK"
	}
	_, err := w.conn.ExecContext(ctx, how)
	return err
}

// fromClient is a transaction whose rows come from here, by COPY or by the library.
func (w *writer) fromClient(ctx context.Context) error {
	tx, err := w.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	n, first := w.rows(), int64(0)
	key := w.pick(w.rng)[0]
	if err := tx.QueryRowContext(ctx, bump(key, n)+fmt.Sprintf(" RETURNING version - %d", n-1)).Scan(&first); err != nil {
		return err
	}
	msgs := make([]outbox.Message, n)
	for i := range msgs {
		msgs[i] = outbox.Message{ID: uuid.New(), Topic: "ledger", Key: key, AggregateVersion: first + int64(i)}
	}
	if chance(w.rng, 50) {
		w.count("library appends")
		err = w.store.Append(ctx, tx, msgs)
	} else {
		w.count("copies")
		err = copyRows(ctx, tx, "outbox", msgs, "topic", "aggregate_version")
	}
	if err != nil {
		return err
	}
	if err := copyRows(ctx, tx, "ledger_events", msgs, "", "version"); err != nil {
		return err
	}
	if chance(w.rng, 20) {
		w.count("rollbacks")
		return tx.Rollback()
	}
	return tx.Commit()
}

// copyRows copies the messages into a table; topic is "" if it has no such column.
func copyRows(ctx context.Context, tx *sql.Tx, table string, msgs []outbox.Message, topic, version string) error {
	columns := []string{"event_id", "key", version}
	if topic != "" {
		columns = append(columns, topic)
	}
	stmt, err := tx.PrepareContext(ctx, pq.CopyIn(table, columns...)) //nolint:staticcheck // COPY by the driver is one of the ways of writing
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, m := range msgs {
		row := []any{m.ID.String(), m.Key, m.AggregateVersion}
		if topic != "" {
			row = append(row, m.Topic)
		}
		if _, err := stmt.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	_, err = stmt.ExecContext(ctx)
	return err
}
