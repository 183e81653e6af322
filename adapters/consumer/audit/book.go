package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/consumer"
)

// Config configures a Book. The zero value is the default.
type Config struct {
	// Alive is how long an act keeps others away after it last showed a sign of
	// life, which it does three times in that time. Default 15 s.
	Alive time.Duration
}

// Book implements consumer.Book in Postgres. It is safe for concurrent use.
type Book struct {
	db  *sql.DB
	cfg Config
}

var _ consumer.Book = (*Book)(nil)

// New returns a book on a database with the migrations of sql.Outbox.
func New(db *sql.DB, cfg Config) (*Book, error) {
	if db == nil {
		return nil, errors.New("audit: database is missing")
	}
	if cfg.Alive < 0 {
		return nil, fmt.Errorf("audit: alive must not be negative, is %s", cfg.Alive)
	}
	if cfg.Alive == 0 {
		cfg.Alive = 15 * time.Second
	}
	return &Book{db: db, cfg: cfg}, nil
}

// ErrNoTables means that the database has not had the migrations.
var ErrNoTables = errors.New("audit: the database has no table dead_letter_audit: run millrace migrate up")

// Check returns ErrNoTables if the tables are not there.
func (b *Book) Check(ctx context.Context) error {
	var installed bool
	if err := b.db.QueryRowContext(ctx, installedSQL).Scan(&installed); err != nil {
		return fmt.Errorf("look for the audit of dead letters: %w", err)
	}
	if !installed {
		return ErrNoTables
	}
	return nil
}

// Open implements consumer.Book. An act whose process is gone for longer than
// Config.Alive is recorded as abandoned and keeps nobody away.
func (b *Book) Open(ctx context.Context, act consumer.Act) (consumer.Page, error) {
	filter, err := json.Marshal(filterOf(&act.Filter))
	if err != nil {
		return nil, fmt.Errorf("record act: %w", err)
	}
	p := &page{book: b, act: act}
	err = b.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, abandonSQL, act.Topic); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, openSQL, act.ID, clean(act.Actor), string(act.Action), act.Topic, string(filter), clean(act.Note), b.seconds()).Scan(&p.id)
		if errors.Is(err, sql.ErrNoRows) {
			return b.busy(ctx, tx, act.Topic)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("record act: %w", err)
	}
	p.keepAlive(ctx)
	return p, nil
}

func (b *Book) seconds() float64 { return b.cfg.Alive.Seconds() }

// busy says who is working on the topic.
func (b *Book) busy(ctx context.Context, tx *sql.Tx, topic string) error {
	var actor, action string
	var since time.Time
	err := tx.QueryRowContext(ctx, runningSQL, topic).Scan(&actor, &action, &since)
	if errors.Is(err, sql.ErrNoRows) { // it has just come to its end
		return consumer.ErrTopicBusy
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s by %s since %s: wait for its end; if its process is gone, its claim runs out within %s",
		consumer.ErrTopicBusy, action, actor, since.UTC().Format(time.RFC3339), b.cfg.Alive)
}

// Decisions implements consumer.Book.
func (b *Book) Decisions(ctx context.Context, topic string, partition int32, from, to int64) (map[int64]consumer.Decision, error) {
	rows, err := b.db.QueryContext(ctx, decisionsSQL, topic, partition, from, to)
	if err != nil {
		return nil, fmt.Errorf("decisions on %s/%d: %w", topic, partition, err)
	}
	defer rows.Close()
	found := map[int64]consumer.Decision{}
	for rows.Next() {
		d := consumer.Decision{Partition: partition}
		if err := rows.Scan(&d.Offset, &d.WrittenAt, &d.State, &d.Group, &d.EventID, &d.At, &d.Act, &d.Actor, &d.Note); err != nil {
			return nil, fmt.Errorf("decisions on %s/%d: %w", topic, partition, err)
		}
		found[d.Offset] = d
	}
	return found, rows.Err()
}

// inTx runs f in a transaction. Writes outside of one may run twice in lib/pq.
func (b *Book) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
