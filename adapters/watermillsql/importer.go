package watermillsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"

	"github.com/millrace-go/millrace/outbox"
)

// ImportConfig configures an Importer. Topic and Writer are required.
type ImportConfig struct {
	// Topic is the topic of the stock table: the forwarder's topic.
	Topic string
	// ConsumerGroup is the group of the stock subscriber whose unacknowledged
	// rows are moved. Watermill-sql's default, and ours, is the empty one.
	ConsumerGroup string
	// FromStart allows a group that has never read the table: all rows are moved.
	FromStart bool
	// Writer appends to the outbox of the same database.
	Writer *outbox.Writer
	// Schema and Offsets are the stock adapters; only their tables' names are
	// used. Default watermill-sql's: watermill_TOPIC, watermill_offsets_TOPIC.
	Schema  wsql.DefaultPostgreSQLSchema
	Offsets wsql.DefaultPostgreSQLOffsetsAdapter
	// Unwrap makes messages of rows. Default Envelope.
	Unwrap UnwrapFunc
	// Key gives the key of an unwrapped message. Default outbox.KeyFromMetadata.
	Key outbox.KeyFunc
	// Bad is told of each row that the outbox cannot take. If it returns nil the
	// row is passed over and stays in the stock table; it is called again for it
	// if the batch is repeated. Default: the import stops with the *RowError.
	Bad func(ctx context.Context, row *RowError) error
	// BatchSize is the number of rows a transaction, more if a long transaction
	// of a writer overlaps with others. Default 1,000.
	BatchSize int
	// Poll is how often Run looks for new rows. Default 200 ms.
	Poll time.Duration
	// SwitchTimeout is the longest that one try of Switch makes writers wait for
	// transactions that are under way. Default 500 ms.
	SwitchTimeout time.Duration
	// SwitchTries is how often Switch tries, Poll apart. Default 20.
	SwitchTries int
	// Progress is called after each batch with all that was done so far.
	Progress func(ImportResult)
}

// ImportResult counts rows.
type ImportResult struct {
	Moved   int64 // now in the outbox
	Passed  int64 // passed over, as Bad allowed
	Batches int64
}

// Importer moves the rows of a stock messages table that its consumer group has
// not acknowledged to the outbox. Each batch is one transaction that locks the
// group's offset, appends to the outbox and advances the offset: a stock
// subscriber of the group may run beside, and each row goes one way or the other.
// Several importers of one group exclude each other by the same lock.
//
// Rows of one key keep the order in which they were committed.
type Importer struct {
	db    *sql.DB
	cfg   ImportConfig
	stock stock
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9\-$:._]+$`)

// NewImporter returns an Importer on db, which holds both tables. It does no I/O.
func NewImporter(db *sql.DB, cfg ImportConfig) (*Importer, error) {
	def(&cfg.BatchSize, 1000)
	def(&cfg.Poll, 200*time.Millisecond)
	def(&cfg.SwitchTimeout, 500*time.Millisecond)
	def(&cfg.SwitchTries, 20)
	if cfg.Unwrap == nil {
		cfg.Unwrap = Envelope
	}
	if cfg.Key == nil {
		cfg.Key = outbox.KeyFromMetadata
	}
	if cfg.Bad == nil {
		cfg.Bad = func(_ context.Context, row *RowError) error { return row }
	}
	if cfg.Progress == nil {
		cfg.Progress = func(ImportResult) {}
	}
	var errs []error
	need := func(ok bool, problem string) {
		if !ok {
			errs = append(errs, errors.New(problem))
		}
	}
	need(db != nil, "db: is nil")
	need(topicName.MatchString(cfg.Topic), "Topic: must be a topic of watermill-sql: letters, digits and - $ : . _")
	need(cfg.Writer != nil, "Writer: is nil")
	need(cfg.BatchSize > 0, "BatchSize: must be positive, or 0 for the default")
	need(cfg.Poll > 0, "Poll: must be positive, or 0 for the default")
	need(cfg.SwitchTimeout >= time.Millisecond, "SwitchTimeout: must be at least 1 ms, or 0 for the default")
	need(cfg.SwitchTries > 0, "SwitchTries: must be positive, or 0 for the default")
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("import from watermill-sql: %w", err)
	}
	return &Importer{db: db, cfg: cfg, stock: stock{
		messages: cfg.Schema.MessagesTable(cfg.Topic), offsets: cfg.Offsets.MessagesOffsetsTable(cfg.Topic),
	}}, nil
}

// def sets a value that was left zero.
func def[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Import moves what is there now and returns: NewImporter and Once.
func Import(ctx context.Context, db *sql.DB, cfg ImportConfig) (ImportResult, error) {
	i, err := NewImporter(db, cfg)
	if err != nil {
		return ImportResult{}, err
	}
	return i.Once(ctx)
}

// Once moves all rows that are decided when it is called, and those that become
// so meanwhile, until none is left. Rows of transactions that have a higher id
// than one still running in the database stay for the next call. What was moved before an
// error stays moved and is counted.
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

// Run moves rows as they come until ctx ends, and returns nil then. It starts
// again after what may pass by itself; a *RowError or a missing table ends it.
func (i *Importer) Run(ctx context.Context) error {
	if err := i.start(ctx); err != nil {
		return stopped(ctx, err)
	}
	var done ImportResult
	for {
		more, err := i.round(ctx, &done)
		if err != nil && !passing(err) {
			return stopped(ctx, err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(i.cfg.Poll):
		}
	}
}

func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("import from watermill-sql: %w", err)
}

// start checks the tables, and makes the group's row if it may.
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

// round moves what is decided now. more says that it found something.
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
		var b batch
		err := i.inTx(ctx, func(tx *sql.Tx) (err error) {
			b, err = i.move(ctx, tx, c)
			return err
		})
		if err != nil {
			return false, err
		}
		i.count(done, b)
	}
	return len(cuts) > 0, nil
}

func (i *Importer) count(done *ImportResult, b batch) {
	done.Moved += b.moved
	done.Passed += b.passed
	done.Batches++
	if b.moved > 0 {
		i.cfg.Writer.Committed()
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

// rollback is silent if the transaction is gone already, with its context.
func rollback(tx *sql.Tx) error {
	if err := tx.Rollback(); !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	return nil
}
