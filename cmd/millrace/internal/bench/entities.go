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

// entities is a database with an outbox and with entities that writers change.
type entities struct {
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

// entityConnections is the size of the writers' pool.
const entityConnections = 80

func newEntities(ctx context.Context, dsn, topic string, keys, payload int) (*entities, error) {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	db.SetMaxOpenConns(entityConnections)
	db.SetMaxIdleConns(entityConnections)
	ent := &entities{dsn: dsn, db: db, keys: keys, topic: topic, body: []byte(strings.Repeat("x", payload))}
	if err := ent.prepare(ctx); err != nil {
		ent.close()
		return nil, err
	}
	return ent, nil
}

func (ent *entities) prepare(ctx context.Context) (err error) {
	if _, err := migrations.Up(ctx, ent.db, migrations.Outbox); err != nil {
		return err
	}
	for _, q := range []string{
		`CREATE TABLE bench_entity (id text PRIMARY KEY, version bigint NOT NULL DEFAULT 1, body text NOT NULL) WITH (fillfactor = 50)`,
		fmt.Sprintf(`INSERT INTO bench_entity (id, body) SELECT 'key-' || n, '' FROM generate_series(0, %d) n`, ent.keys-1),
		`VACUUM ANALYZE bench_entity`,
	} {
		if _, err := ent.db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("entities: %w", err)
		}
	}
	if ent.store, err = pgstore.New(ent.db, pgstore.Config{}); err != nil {
		return err
	}
	if err := ent.store.Prepare(ctx); err != nil {
		return err
	}
	if ent.upsert, err = ent.db.PrepareContext(ctx, upsertEntity); err != nil {
		return fmt.Errorf("prepare the entity statement: %w", err)
	}
	return nil
}

func (ent *entities) close() {
	if ent.store != nil {
		_ = ent.store.Close()
	}
	_ = ent.db.Close() // and with it what was prepared
}

func (ent *entities) key() string { return fmt.Sprintf("key-%d", rand.IntN(ent.keys)) }

// message is that of an entity's new version.
func (ent *entities) message(key string, version int64) outbox.Message {
	return outbox.Message{
		ID: uuid.New(), Topic: ent.topic, Key: key, Type: "bench.changed",
		AggregateType: "bench", AggregateID: key, AggregateVersion: version, Payload: ent.body,
	}
}

// save writes the entity and returns its new version.
func (ent *entities) save(ctx context.Context, tx *sql.Tx, key string) (version int64, err error) {
	err = tx.StmtContext(ctx, ent.upsert).QueryRowContext(ctx, key, string(ent.body)).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("entity: %w", err)
	}
	return version, nil
}

// transaction is one business transaction around do.
func (ent *entities) transaction(ctx context.Context, do func(tx *sql.Tx) error) error {
	tx, err := ent.db.BeginTx(ctx, nil)
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
func (ent *entities) saveAnd(ctx context.Context, carry func(tx *sql.Tx, m outbox.Message) error) (check.Event, error) {
	var e check.Event
	err := ent.transaction(ctx, func(tx *sql.Tx) error {
		key := ent.key()
		version, err := ent.save(ctx, tx, key)
		if err != nil {
			return err
		}
		m := ent.message(key, version)
		e = check.Event{ID: m.ID, Key: key, Aggregate: key, Version: version}
		return carry(tx, m)
	})
	return e, err
}
