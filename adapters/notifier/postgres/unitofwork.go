// Package postgres stores the aggregates of the reference service in Postgres,
// over database/sql and lib/pq: the unit of work, which also appends the events
// to the outbox, and the repositories written in SQL.
//
// Reference code: no compatibility promise.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/outbox"
)

// Outbox takes the messages of a transaction; *outbox.Writer is one.
type Outbox interface {
	Append(ctx context.Context, tx *sql.Tx, msgs ...outbox.Message) error
	Wake()
}

// Encoder makes messages of events; *codec.Codec is one.
type Encoder interface {
	Encode(ctx context.Context, r domain.Recorded) (outbox.Message, error)
}

// Config configures a UnitOfWork. The zero value is usable.
type Config struct {
	// Retries is how often a transaction is run again after Postgres ended it as
	// a deadlock victim or for serialization; -1 is never. Default 3.
	Retries int
	// RetryWait is the longest wait before the first of these; it doubles with
	// each, and the wait itself is random below it. Default 20 ms.
	RetryWait time.Duration
	// ResolveWait bounds how long to ask whether a transaction committed, when
	// the answer to COMMIT was lost. Default 5 s.
	ResolveWait time.Duration
	// Notifications makes the repository of a transaction. Default NewNotifications.
	Notifications func(tx *sql.Tx) app.Notifications
	// Accounts and Sessions are the same for theirs. Default NewAccounts and
	// NewSessions.
	Accounts func(tx *sql.Tx) app.Accounts
	Sessions func(tx *sql.Tx) app.Sessions
	// Claims is the same for the schedule of further attempts. Default NewClaims.
	Claims func(tx *sql.Tx) app.Claims
}

// UnitOfWork runs closures in transactions. It is safe for concurrent use.
type UnitOfWork struct {
	db     *sql.DB
	outbox Outbox
	codec  Encoder
	cfg    Config
}

var _ app.UnitOfWork = (*UnitOfWork)(nil)

// NewUnitOfWork returns a unit of work over db; all arguments are required.
func NewUnitOfWork(db *sql.DB, out Outbox, codec Encoder, cfg Config) (*UnitOfWork, error) {
	var v domain.Validation
	v.Check(db != nil, "db", "is nil")
	v.Check(out != nil, "outbox", "is nil")
	v.Check(codec != nil, "codec", "is nil")
	v.Check(cfg.Retries >= -1, "Retries", "must be -1 for never, 0 for the default, or positive")
	v.Check(cfg.RetryWait >= 0, "RetryWait", "must not be negative")
	v.Check(cfg.ResolveWait >= 0, "ResolveWait", "must not be negative")
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("unit of work: %w", err)
	}
	if cfg.Retries == 0 {
		cfg.Retries = 3
	}
	if cfg.RetryWait == 0 {
		cfg.RetryWait = 20 * time.Millisecond
	}
	if cfg.ResolveWait == 0 {
		cfg.ResolveWait = 5 * time.Second
	}
	if cfg.Notifications == nil {
		cfg.Notifications = NewNotifications
	}
	if cfg.Accounts == nil {
		cfg.Accounts = NewAccounts
	}
	if cfg.Sessions == nil {
		cfg.Sessions = NewSessions
	}
	if cfg.Claims == nil {
		cfg.Claims = NewClaims
	}
	return &UnitOfWork{db: db, outbox: out, codec: codec, cfg: cfg}, nil
}

// Do implements app.UnitOfWork. When the connection is lost in the middle of
// COMMIT, Do finds out what became of the transaction; only if that cannot be
// found out in time is the error ErrOutcomeUnknown.
func (u *UnitOfWork) Do(ctx context.Context, fn func(context.Context, app.Tx) error) error {
	if outer, ok := ctx.Value(txKey{u}).(*transaction); ok {
		return outer.join(ctx, fn)
	}
	for attempt := 0; ; attempt++ {
		err := u.once(ctx, fn)
		if err == nil || attempt >= u.cfg.Retries || !worthRetrying(err) || !u.pause(ctx, attempt) {
			return err
		}
	}
}

// In runs fn in a transaction that somebody else began and will end, such as an
// inbox: rows and events become part of it. After an error it can only be rolled
// back. The caller wakes the relay after the commit.
func (u *UnitOfWork) In(ctx context.Context, tx *sql.Tx, fn func(context.Context, app.Tx) error) error {
	return u.run(ctx, tx, fn)
}

func (u *UnitOfWork) once(ctx context.Context, fn func(context.Context, app.Tx) error) error {
	tx, err := u.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after an error or a panic; nothing to do after a commit
	if err := u.run(ctx, tx, fn); err != nil {
		return err
	}
	if err := u.commit(ctx, tx); err != nil {
		return err
	}
	u.outbox.Wake()
	return nil
}

// run gives fn its transaction and then appends its events: after all the
// entity writes, so that the row locks those take put the writers of one
// aggregate in the same order in the log.
func (u *UnitOfWork) run(ctx context.Context, tx *sql.Tx, fn func(context.Context, app.Tx) error) error {
	t := &transaction{u: u, tx: tx, notifications: u.cfg.Notifications(tx), accounts: u.cfg.Accounts(tx), sessions: u.cfg.Sessions(tx)}
	err := fn(context.WithValue(ctx, txKey{u}, t), t)
	if err == nil {
		err = t.failed
	}
	if err != nil {
		return err
	}
	return u.outbox.Append(ctx, tx, t.messages...)
}

type txKey struct{ u *UnitOfWork }

// transaction is what a closure sees.
type transaction struct {
	u             *UnitOfWork
	tx            *sql.Tx
	notifications app.Notifications
	accounts      app.Accounts
	sessions      app.Sessions
	messages      []outbox.Message
	failed        error // of a nested unit of work
}

// Notifications implements app.Tx.
func (t *transaction) Notifications() app.Notifications { return t.notifications }

// Accounts implements app.Tx.
func (t *transaction) Accounts() app.Accounts { return t.accounts }

// Sessions implements app.Tx.
func (t *transaction) Sessions() app.Sessions { return t.sessions }

// Claims implements app.Tx.
func (t *transaction) Claims() app.Claims { return t.u.cfg.Claims(t.tx) }

// SQL returns the transaction behind tx, for those who check something in it that
// the ports do not know, such as the fence of a lock; false for a tx that is not
// of this package. It is not to be committed or rolled back.
func SQL(tx app.Tx) (*sql.Tx, bool) {
	t, ok := tx.(*transaction)
	if !ok {
		return nil, false
	}
	return t.tx, true
}

// Record implements app.Tx.
func (t *transaction) Record(ctx context.Context, events ...domain.Recorded) error {
	for _, e := range events {
		m, err := t.u.codec.Encode(ctx, e)
		if err != nil {
			return fmt.Errorf("record event: %w", err)
		}
		t.messages = append(t.messages, m)
	}
	return nil
}

func (t *transaction) join(ctx context.Context, fn func(context.Context, app.Tx) error) error {
	err := fn(ctx, t)
	if err != nil && t.failed == nil {
		t.failed = fmt.Errorf("nested unit of work: %w", err)
	}
	return err
}

// ErrOutcomeUnknown means that the connection was lost during COMMIT and that the
// database could not be asked what became of the transaction. It may or may not
// have committed.
var ErrOutcomeUnknown = errors.New("outcome of the commit is unknown")
