package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	migrations "github.com/millrace-go/millrace/sql"
)

// yard is a database with an outbox and with entities that writers change.
type yard struct {
	dsn    string
	db     *sql.DB
	store  *pgstore.Store
	upsert *sql.Stmt
	keys   int
	topic  string
	body   []byte
}

const upsertEntity = `INSERT INTO bench_entity (id, body) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET version = bench_entity.version + 1, body = excluded.body RETURNING version`

// yardConnections is the size of the writers' pool.
const yardConnections = 80

func newYard(ctx context.Context, dsn, topic string, keys, payload int) (*yard, error) {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	db.SetMaxOpenConns(yardConnections)
	db.SetMaxIdleConns(yardConnections)
	y := &yard{dsn: dsn, db: db, keys: keys, topic: topic, body: []byte(strings.Repeat("x", payload))}
	if err := y.prepare(ctx); err != nil {
		y.close()
		return nil, err
	}
	return y, nil
}

func (y *yard) prepare(ctx context.Context) (err error) {
	if _, err := migrations.Up(ctx, y.db, migrations.Outbox); err != nil {
		return err
	}
	for _, q := range []string{
		`CREATE TABLE bench_entity (id text PRIMARY KEY, version bigint NOT NULL DEFAULT 1, body text NOT NULL) WITH (fillfactor = 50)`,
		fmt.Sprintf(`INSERT INTO bench_entity (id, body) SELECT 'key-' || n, '' FROM generate_series(0, %d) n`, y.keys-1),
		`VACUUM ANALYZE bench_entity`,
	} {
		if _, err := y.db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("entities: %w", err)
		}
	}
	if y.store, err = pgstore.New(y.db, pgstore.Config{}); err != nil {
		return err
	}
	if err := y.store.Prepare(ctx); err != nil {
		return err
	}
	if y.upsert, err = y.db.PrepareContext(ctx, upsertEntity); err != nil {
		return fmt.Errorf("prepare the entity statement: %w", err)
	}
	return nil
}

func (y *yard) close() {
	if y.store != nil {
		_ = y.store.Close()
	}
	_ = y.db.Close() // and with it what was prepared
}

func (y *yard) key() string { return fmt.Sprintf("key-%d", rand.IntN(y.keys)) }

// message is that of an entity's new version.
func (y *yard) message(key string, version int64) outbox.Message {
	return outbox.Message{
		ID: uuid.New(), Topic: y.topic, Key: key, Type: "bench.changed",
		AggregateType: "bench", AggregateID: key, AggregateVersion: version, Payload: y.body,
	}
}

// save writes the entity and returns its new version.
func (y *yard) save(ctx context.Context, tx *sql.Tx, key string) (version int64, err error) {
	err = tx.StmtContext(ctx, y.upsert).QueryRowContext(ctx, key, string(y.body)).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("entity: %w", err)
	}
	return version, nil
}

// transaction is one business transaction around do.
func (y *yard) transaction(ctx context.Context, do func(tx *sql.Tx) error) error {
	tx, err := y.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// saveAnd is a business transaction: the entity, then whatever carries its
// message. It returns the event that it committed.
func (y *yard) saveAnd(ctx context.Context, carry func(tx *sql.Tx, m outbox.Message) error) (check.Event, error) {
	var e check.Event
	err := y.transaction(ctx, func(tx *sql.Tx) error {
		key := y.key()
		version, err := y.save(ctx, tx, key)
		if err != nil {
			return err
		}
		m := y.message(key, version)
		e = check.Event{ID: m.ID, Key: key, Aggregate: key, Version: version}
		return carry(tx, m)
	})
	return e, err
}
