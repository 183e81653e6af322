package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer"
)

// Effect is what a message does to the database, all of it by tx. It may be
// called more than once for an event, but what it does counts once. Nothing but
// SQL should happen in it: the transaction, and rows of other messages, wait.
type Effect func(ctx context.Context, tx *sql.Tx, msg *message.Message) error

// Inbox makes the effects of one consumer group. It is safe for concurrent use
// and holds no connection.
type Inbox struct {
	db  *sql.DB
	cfg Config

	mu      sync.RWMutex
	sources map[string]int32 // ids by topic

	claimOne, claimMany statement
}

// New returns an inbox on db, which needs the tables of package sql, line Outbox.
// It does no I/O.
func New(db *sql.DB, cfg Config) (*Inbox, error) {
	err := cfg.Validate()
	if db == nil {
		err = errors.Join(errors.New("db: is nil"), err)
	}
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	cfg.setDefaults()
	i := &Inbox{db: db, cfg: cfg, sources: map[string]int32{}}
	i.claimOne.text, i.claimMany.text = claimOne, claimMany
	return i, nil
}

// Prepare prepares the statement that each transaction begins with, which saves
// it a round trip. Call it once at start; not behind a pooler that knows no
// prepared statements.
func (i *Inbox) Prepare(ctx context.Context) error {
	return errors.Join(i.claimOne.prepare(ctx, i.db), i.claimMany.prepare(ctx, i.db))
}

// Close frees what Prepare made. The database stays open.
func (i *Inbox) Close() error { return errors.Join(i.claimOne.close(), i.claimMany.close()) }

// Typed makes an Effect of a decoder and a function of the decoded value. A
// message that cannot be decoded does not disturb the others of its batch. A
// decoder's error counts as consumer.ErrDecode unless it carries a verdict or a
// sentinel of its own.
func Typed[T any](decode func(*message.Message) (T, error), effect func(ctx context.Context, tx *sql.Tx, v T) error) Effect {
	if decode == nil || effect == nil {
		return nil // Handler and Batch pass it on to the router, which reports it
	}
	return func(ctx context.Context, tx *sql.Tx, msg *message.Message) error {
		touched := false
		err := consumer.Typed(decode, func(_ context.Context, v T) error {
			touched = true
			return effect(ctx, tx, v)
		})(msg)
		if err != nil && !touched {
			return &untouched{err}
		}
		return err
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
	err := i.db.QueryRowContext(ctx, findSource, i.cfg.Group, topic).Scan(&id)
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
	if _, err := tx.ExecContext(ctx, addSource, i.cfg.Group, topic); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, findSource, i.cfg.Group, topic).Scan(id); err != nil {
		return err
	}
	return tx.Commit()
}
