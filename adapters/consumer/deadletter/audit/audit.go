package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

// lease is how long an operation keeps others away from its topic after it last
// renewed its entry, which it does three times in that time.
const lease = 15 * time.Second

// Log is an audit log in Postgres. It is safe for concurrent use.
type Log struct {
	deadletter.AuditLog // for deadletter.Config

	db *sql.DB
}

// New returns an audit log in a database with the migrations of sql.Outbox.
func New(db *sql.DB) (*Log, error) {
	if db == nil {
		return nil, errors.New("audit: db: must not be nil")
	}
	return newLog(db, lease), nil
}

func newLog(db *sql.DB, lease time.Duration) *Log {
	return &Log{AuditLog: &store{db: db, lease: lease}, db: db}
}

// store implements deadletter.AuditLog.
type store struct {
	db    *sql.DB
	lease time.Duration
}

// ErrNoTables means that the database lacks the migrations.
var ErrNoTables = errors.New("audit: the database has no table dead_letter_audit: run millrace migrate up")

// Check returns ErrNoTables if the tables do not exist.
func (l *Log) Check(ctx context.Context) error {
	var installed bool
	if err := l.db.QueryRowContext(ctx, installedSQL).Scan(&installed); err != nil {
		return fmt.Errorf("look for the audit tables: %w", err)
	}
	if !installed {
		return ErrNoTables
	}
	return nil
}

// Open implements deadletter.AuditLog. An operation whose process has been gone for
// longer than its lease is recorded as abandoned and keeps nobody away.
func (l *store) Open(ctx context.Context, op deadletter.Operation) (deadletter.Entry, error) {
	filter, err := json.Marshal(filterFields(&op.Filter))
	if err != nil {
		return nil, fmt.Errorf("record operation: %w", err)
	}
	e := &runningEntry{log: l, op: op}
	err = l.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, abandonSQL, op.Topic); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, openSQL, op.ID, clean(op.Actor), string(op.Action), op.Topic, string(filter), clean(op.Note), l.leaseSeconds()).Scan(&e.id)
		if errors.Is(err, sql.ErrNoRows) {
			return l.busy(ctx, tx, op.Topic)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("record operation: %w", err)
	}
	e.startRenewing(ctx)
	return e, nil
}

func (l *store) leaseSeconds() float64 { return l.lease.Seconds() }

// busy says who is working on the topic.
func (l *store) busy(ctx context.Context, tx *sql.Tx, topic string) error {
	var actor, action string
	var since time.Time
	err := tx.QueryRowContext(ctx, runningSQL, topic).Scan(&actor, &action, &since)
	if errors.Is(err, sql.ErrNoRows) { // it has just ended
		return deadletter.ErrTopicBusy
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s by %s since %s: wait until it ends; if its process is gone, its lease ends within %s",
		deadletter.ErrTopicBusy, action, actor, since.UTC().Format(time.RFC3339), l.lease)
}

// Decisions implements deadletter.AuditLog.
func (l *store) Decisions(ctx context.Context, topic string, partition int32, from, to int64) (map[int64]deadletter.Decision, error) {
	rows, err := l.db.QueryContext(ctx, decisionsSQL, topic, partition, from, to)
	if err != nil {
		return nil, fmt.Errorf("decisions on %s/%d: %w", topic, partition, err)
	}
	defer rows.Close()
	found := map[int64]deadletter.Decision{}
	for rows.Next() {
		d := deadletter.Decision{Partition: partition}
		if err := rows.Scan(&d.Offset, &d.WrittenAt, &d.State, &d.Group, &d.EventID, &d.At, &d.Operation, &d.Actor, &d.Note); err != nil {
			return nil, fmt.Errorf("decisions on %s/%d: %w", topic, partition, err)
		}
		found[d.Offset] = d
	}
	return found, rows.Err()
}

// inTx runs f in a transaction. lib/pq may run a write outside of one twice.
func (l *store) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
