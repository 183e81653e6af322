package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/internal/pgstmt"
	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// Effect is what a message does to the database, all of it by tx. It may be
// called more than once for an event, but what it does counts once. Nothing but
// SQL should happen in it: the transaction, and rows of other messages, wait.
type Effect func(ctx context.Context, tx *sql.Tx, msg *message.Message) error

// Inbox makes the effects of one consumer group. It is safe for concurrent use
// and holds no connection.
type Inbox struct {
	db    *sql.DB
	group string
	cfg   Config

	mu      sync.RWMutex
	sources map[string]int32 // ids by topic

	reserveOne, reserveMany *pgstmt.Statement
}

// New returns the inbox of a consumer group on db, which needs the tables of package
// sql, line Outbox. Groups are independent of each other.
func New(db *sql.DB, group string, cfg Config) (*Inbox, error) {
	var l problems.List
	problems.NotNil(&l, "db", db != nil)
	l.AddAll(cfg.validate(group))
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	return &Inbox{
		db: db, group: group, cfg: cfg.withDefaults(), sources: map[string]int32{},
		reserveOne: pgstmt.New(reserveOne), reserveMany: pgstmt.New(reserveMany),
	}, nil
}

// Prepare prepares the statement that each transaction begins with, which saves
// it a round trip. Call it once at start; not behind a pooler that knows no
// prepared statements.
func (i *Inbox) Prepare(ctx context.Context) error {
	if err := errors.Join(i.reserveOne.Prepare(ctx, i.db), i.reserveMany.Prepare(ctx, i.db)); err != nil {
		return fmt.Errorf("prepare the inbox: %w", err)
	}
	return nil
}

// Close frees what Prepare made. The database stays open.
func (i *Inbox) Close() error { return errors.Join(i.reserveOne.Close(), i.reserveMany.Close()) }

// Typed makes an Effect of a decoder and a function of the decoded value. A
// message that cannot be decoded does not disturb the others of its batch. See
// consumer.Decode for the decoder's errors. With a nil argument the effect is nil.
func Typed[T any](decode func(*message.Message) (T, error), effect func(ctx context.Context, tx *sql.Tx, v T) error) Effect {
	if decode == nil || effect == nil {
		return nil
	}
	return func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		v, err := consumer.Decode(decode, msg)
		if err != nil {
			return &untouched{err}
		}
		return effect(ctx, tx, v)
	}
}

// untouched is the error of an effect that has not used its transaction.
type untouched struct{ err error }

func (e *untouched) Error() string { return e.err.Error() }
func (e *untouched) Unwrap() error { return e.err }

// source returns the id of topic, and adds it if it is new.
func (i *Inbox) source(ctx context.Context, topic string) (int32, error) {
	i.mu.RLock()
	id, ok := i.sources[topic]
	i.mu.RUnlock()
	if ok {
		return id, nil
	}
	err := i.db.QueryRowContext(ctx, findSource, i.group, topic).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = i.addSource(ctx, topic, &id)
	}
	if err != nil {
		return 0, fmt.Errorf("inbox: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sources[topic] = id
	return id, nil
}

func (i *Inbox) addSource(ctx context.Context, topic string, id *int32) error {
	tx, err := i.db.BeginTx(ctx, readCommitted)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing to do after a commit
	if _, err := tx.ExecContext(ctx, addSource, i.group, topic); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, findSource, i.group, topic).Scan(id); err != nil {
		return err
	}
	return tx.Commit()
}
