package watermillsql

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/adapters/internal/hook"
	"github.com/millrace-go/millrace/adapters/internal/problems"
	"github.com/millrace-go/millrace/outbox"
)

// ImportConfig configures an Importer. The zero value is usable.
type ImportConfig struct {
	// ConsumerGroup is the group of the stock subscriber whose unacknowledged
	// rows are moved. Default the empty group, as in watermill-sql.
	ConsumerGroup string
	// FromStart allows a group that has never read the table: all rows are moved.
	// Default false: such a group is refused with ErrUnknownGroup.
	FromStart bool
	// Schema and Offsets are the stock adapters; only their tables' names are
	// used. Default watermill-sql's: watermill_TOPIC, watermill_offsets_TOPIC.
	Schema  wsql.DefaultPostgreSQLSchema
	Offsets wsql.DefaultPostgreSQLOffsetsAdapter
	// Unwrap returns the message of a row. Default Envelope.
	Unwrap UnwrapFunc
	// Key returns the key of an unwrapped message. Default outbox.KeyFromMetadata.
	Key outbox.KeyFunc
	// Refused is called for each row that the outbox cannot take. If it returns
	// nil the row is skipped and stays in the stock table; it is called again for
	// the row if the batch is repeated. Default: the import stops with the *RowError.
	Refused func(ctx context.Context, row *RowError) error
	// BatchSize is the number of rows in a transaction. There are more if a long
	// transaction of a writer overlaps with others. Default 1,000.
	BatchSize int
	// Poll is how often Run looks for new rows. Default 200 ms.
	Poll time.Duration
	// SwitchTimeout bounds how long one attempt of Switch makes writers wait for
	// transactions that are open. Default 500 ms.
	SwitchTimeout time.Duration
	// SwitchAttempts is how often Switch tries, with Poll between the attempts.
	// Default 20.
	SwitchAttempts int
	// Progress is called after each batch with everything done so far.
	// Default: none.
	Progress func(ImportResult)
}

func (c ImportConfig) withDefaults() ImportConfig {
	c.BatchSize = cmp.Or(c.BatchSize, 1000)
	c.Poll = cmp.Or(c.Poll, 200*time.Millisecond)
	c.SwitchTimeout = cmp.Or(c.SwitchTimeout, 500*time.Millisecond)
	c.SwitchAttempts = cmp.Or(c.SwitchAttempts, 20)
	if c.Unwrap == nil {
		c.Unwrap = Envelope
	}
	if c.Key == nil {
		c.Key = outbox.KeyFromMetadata
	}
	if c.Refused == nil {
		c.Refused = func(_ context.Context, row *RowError) error { return row }
	}
	hook.Fill1(&c.Progress)
	return c
}

// ImportResult counts rows.
type ImportResult struct {
	Moved   int64 // now in the outbox
	Skipped int64 // refused by the outbox, and skipped because Refused returned nil
	Batches int64
}

// Importer moves the rows of a stock messages table that a consumer group has not
// acknowledged to the outbox. Each batch is one transaction that locks the group's
// offset, appends to the outbox and advances the offset. So a stock subscriber of the
// group may run at the same time: each row is either delivered by it or moved.
// Importers of one group exclude each other by the same lock.
//
// Rows of one key keep the order in which they were committed.
type Importer struct {
	db     *sql.DB
	topic  string
	writer *outbox.Writer
	cfg    ImportConfig
	stock  stock
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9\-$:._]+$`)

// NewImporter returns an Importer for the stock table of topic, the forwarder's
// topic, in db. writer appends to the outbox of the same database. It does no I/O;
// the error names everything that is wrong.
func NewImporter(db *sql.DB, topic string, writer *outbox.Writer, cfg ImportConfig) (*Importer, error) {
	cfg = cfg.withDefaults()
	var p problems.List
	problems.NotNil(&p, "db", db != nil)
	p.Unless(topicName.MatchString(topic), "topic", "must be a topic of watermill-sql (letters, digits and - $ : . _), is %q", topic)
	problems.NotNil(&p, "writer", writer != nil)
	problems.AtLeast(&p, "BatchSize", cfg.BatchSize, 1)
	problems.Positive(&p, "Poll", cfg.Poll)
	problems.AtLeast(&p, "SwitchTimeout", cfg.SwitchTimeout, time.Millisecond)
	problems.AtLeast(&p, "SwitchAttempts", cfg.SwitchAttempts, 1)
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("import from watermill-sql: %w", err)
	}
	return &Importer{db: db, topic: topic, writer: writer, cfg: cfg, stock: stock{
		messages: cfg.Schema.MessagesTable(topic), offsets: cfg.Offsets.MessagesOffsetsTable(topic),
	}}, nil
}

// Once moves all decided rows, and those that become decided meanwhile, until none is
// left. A row is decided when no transaction with a lower id runs in the database:
// the others wait for the next call. Rows that were moved before an error stay moved
// and are counted.
func (i *Importer) Once(ctx context.Context) (ImportResult, error) {
	var done ImportResult
	err := i.start(ctx)
	for more := true; err == nil && more; {
		more, err = i.round(ctx, &done)
	}
	if err != nil {
		err = fmt.Errorf("import from watermill-sql: %w", err)
	}
	return done, err
}

// Run moves rows as they come until ctx ends; then it returns nil. It retries after
// errors that may be temporary. A *RowError or a missing table ends it.
func (i *Importer) Run(ctx context.Context) error {
	if err := i.start(ctx); err != nil {
		return stopped(ctx, err)
	}
	var done ImportResult
	for {
		more, err := i.round(ctx, &done)
		if err != nil && !temporary(err) {
			return stopped(ctx, err)
		}
		if more && err == nil {
			continue
		}
		if backoff.Sleep(ctx, i.cfg.Poll) != nil {
			return nil
		}
	}
}

// stopped returns nil if ctx has ended, which is why err occurred.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("import from watermill-sql: %w", err)
}

// start checks the tables, and inserts the group's row if FromStart allows it.
func (i *Importer) start(ctx context.Context) error {
	if err := i.stock.check(ctx, i.db, i.cfg.ConsumerGroup, i.cfg.FromStart); err != nil {
		return err
	}
	if !i.cfg.FromStart {
		return nil
	}
	return i.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, i.stock.text(addGroupSQL), i.cfg.ConsumerGroup)
		return err
	})
}

// round moves the rows that are decided now; more reports that there were any.
func (i *Importer) round(ctx context.Context, done *ImportResult) (more bool, err error) {
	from, err := i.stock.mark(ctx, i.db, i.cfg.ConsumerGroup, false)
	if err != nil {
		return false, err
	}
	cuts, err := i.cuts(ctx, from)
	if err != nil {
		return false, err
	}
	for _, c := range cuts {
		var n counts
		err := i.inTx(ctx, func(tx *sql.Tx) (err error) {
			n, err = i.move(ctx, tx, c)
			return err
		})
		if err != nil {
			return false, err
		}
		i.count(done, n)
	}
	return len(cuts) > 0, nil
}

func (i *Importer) count(done *ImportResult, c counts) {
	done.Moved += c.moved
	done.Skipped += c.skipped
	done.Batches++
	if c.moved > 0 {
		i.writer.Wake()
	}
	i.cfg.Progress(*done)
}

// inTx runs f in a READ COMMITTED transaction: each of its statements sees what
// was committed when it began, above all once it has the lock on the offset.
func (i *Importer) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := i.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := f(tx); err != nil {
		return errors.Join(err, rollback(tx))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// rollback returns nil if the transaction has ended with its context.
func rollback(tx *sql.Tx) error {
	if err := tx.Rollback(); !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	return nil
}
