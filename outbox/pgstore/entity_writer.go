package pgstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

// ErrNoEntity means that the entity statement returned no row: a version check
// that did not hold, or no such entity. Nothing was appended, and the transaction
// is still usable. errors.Is finds sql.ErrNoRows in it too.
var ErrNoEntity = fmt.Errorf("entity statement returned no row: %w", sql.ErrNoRows)

// TogetherConfig configures a Together. The zero value is usable.
type EntityWriterConfig struct {
	// MaxPayloadBytes is the largest payload that Append takes, in bytes.
	// Default 1,000,000.
	MaxPayloadBytes int
}

// Together writes an entity and appends its messages in one round trip: Append in
// a transaction of the caller's, Commit as a transaction of its own. It is made
// once for each statement and is safe for concurrent use.
//
// Every row that the statement returns is locked before the first position is
// drawn, so that one key's messages keep their commit order as they do when the
// entity is written first and Writer.Append called after it.
type EntityWriter struct {
	db      *sql.DB
	inserts inserts
	alone   string // the statement without messages
	params  int
	cfg     EntityWriterConfig
}

var parameter = regexp.MustCompile(`\$(\d+)`)

// NewTogether returns the writer of the entities that query inserts, updates or
// deletes. query is one statement of fixed text with parameters from $1 on; it
// must end with a RETURNING clause ("RETURNING 1" will do) and must not begin
// with a WITH that changes data itself. It does no I/O.
func NewEntityWriter(db *sql.DB, query string, cfg EntityWriterConfig) (*EntityWriter, error) {
	query = strings.TrimRight(query, "; \t\r\n")
	var errs []error
	if db == nil {
		errs = append(errs, errors.New("db: is nil"))
	}
	if query == "" {
		errs = append(errs, errors.New("query: is empty"))
	}
	if !strings.Contains(strings.ToLower(query), "returning") {
		errs = append(errs, errors.New("query: has no RETURNING clause: end it with RETURNING 1"))
	}
	if cfg.MaxPayloadBytes < 0 {
		errs = append(errs, errors.New("MaxPayloadBytes: must be positive, or 0 for the default"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("outbox together: %w", err)
	}
	params := 0
	for _, m := range parameter.FindAllStringSubmatch(query, -1) {
		if n, err := strconv.Atoi(m[1]); err == nil {
			params = max(params, n)
		}
	}
	numbers := make([]any, 9)
	for i := range numbers {
		numbers[i] = params + 1 + i
	}
	t := &EntityWriter{db: db, alone: query, params: params, cfg: cfg}
	t.inserts.one.text = entityHead + query + fmt.Sprintf(entityOne, numbers...)
	t.inserts.many.text = entityHead + query + fmt.Sprintf(entityMany, numbers...)
	return t, nil
}

// Prepare prepares the statements, without which Append and Commit take two round
// trips. Call it once at start; it needs a free connection of the pool.
// Transactions of another *sql.DB go on without.
func (t *EntityWriter) Prepare(ctx context.Context) error { return t.inserts.prepare(ctx, t.db) }

// Close frees what Prepare made. The database stays open.
func (t *EntityWriter) Close() error { return t.inserts.close() }

// Append runs the entity statement with args in tx, scans the first row that it
// returns into into (nil: nowhere), and stores msgs. If it returns no row,
// nothing is stored and the error is ErrNoEntity. For the rest it behaves as
// outbox.Writer.Append: bad messages are refused before any I/O, and after an
// error of the database tx can only be rolled back. Without msgs it runs the
// statement alone.
//
// The messages are made before the statement runs: they cannot carry what it
// returns, such as a version that the database counts up. Know the version (read
// it, check it in the statement), or use Writer.Append.
func (t *EntityWriter) Append(ctx context.Context, tx *sql.Tx, args, into []any, msgs ...outbox.Message) error {
	query := func(s *statement, args []any) (*sql.Rows, error) {
		if stmt := s.prepared.Load(); stmt != nil {
			rows, err := tx.StmtContext(ctx, stmt).QueryContext(ctx, args...)
			if err == nil || !notSent(err) {
				return rows, err
			}
		}
		return tx.QueryContext(ctx, s.text, args...)
	}
	return t.write(ctx, &entityCall{t, args, into, query}, msgs)
}

func (t *EntityWriter) write(ctx context.Context, call *entityCall, msgs []outbox.Message) error {
	if len(call.args) != t.params {
		return fmt.Errorf("append outbox: the entity statement has %d parameters and was given %d", t.params, len(call.args))
	}
	if len(msgs) == 0 {
		return call.read(&statement{text: t.alone}, call.args)
	}
	w, err := outbox.NewWriter(call, outbox.WriterConfig{MaxPayloadBytes: t.cfg.MaxPayloadBytes})
	if err != nil {
		return err
	}
	return w.Append(ctx, nil, msgs...)
}

// togetherCall lets a Writer check the messages of one call and draw their ids.
type entityCall struct {
	*EntityWriter
	args, into []any
	query      func(s *statement, args []any) (*sql.Rows, error)
}

var _ outbox.Appender = (*entityCall)(nil)

// Append implements outbox.Appender; its transaction is query's.
func (c *entityCall) Append(_ context.Context, _ *sql.Tx, msgs []outbox.Message) error {
	messages, err := appendArgs(msgs)
	if err != nil {
		return err
	}
	return c.read(c.inserts.forMessages(len(msgs)), append(append(make([]any, 0, len(c.args)+len(messages)), c.args...), messages...))
}

// read runs s and reads all its rows, the first one into c.into.
func (c *entityCall) read(s *statement, args []any) error {
	rows, err := c.query(s, args)
	if err != nil {
		return err
	}
	defer rows.Close()
	returned := 0
	for rows.Next() { // to the end: the insert may still be refused behind the last row
		if returned++; returned > 1 || len(c.into) == 0 {
			continue
		}
		if err := rows.Scan(c.into...); err != nil {
			return fmt.Errorf("entity statement: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if returned == 0 {
		return ErrNoEntity
	}
	return nil
}

// ErrOutcomeUnknown means that no answer came, or none that could be read: the
// transaction may have committed or not.
var ErrOutcomeUnknown = errors.New("the transaction may have committed or not")

// Commit is Append as a transaction of its own: Postgres commits the statement by
// itself, so that the entity, its messages and the commit take one round trip
// where BEGIN, statement, insert and COMMIT take four. Call Writer.Committed, or
// wake the relay, after it.
//
// An error of the server, of the messages, or ErrNoEntity means that nothing was
// written. ErrOutcomeUnknown means that the connection was lost, or into could not
// be filled; the statement is never run a second time. Where that is not enough,
// use a transaction whose id tells what became of it (pg_xact_status).
func (t *EntityWriter) Commit(ctx context.Context, args, into []any, msgs ...outbox.Message) error {
	if len(msgs) == 0 {
		return errors.New("append outbox: no messages: run the statement in a transaction")
	}
	guard := &onlyOnce{}
	query := func(s *statement, args []any) (*sql.Rows, error) {
		args[len(args)-1] = guard.around(args[len(args)-1])
		if stmt := s.prepared.Load(); stmt != nil {
			return stmt.QueryContext(ctx, args...)
		}
		return t.db.QueryContext(ctx, s.text, args...)
	}
	err := t.write(ctx, &entityCall{t, args, into, query}, msgs)
	if err != nil && guard.used && !answered(err) {
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return err
}

// answered reports that the server refused the statement, or returned no row.
func answered(err error) bool {
	var server *pq.Error
	return errors.Is(err, ErrNoEntity) || errors.As(err, &server) && server.Severity != pq.Efatal && server.Severity != pq.Epanic
}

// onlyOnce keeps database/sql from running a statement again on another connection
// when the first one broke: it asks for the arguments anew for each attempt.
type onlyOnce struct {
	value any
	used  bool
}

var errSecondAttempt = errors.New("not run again")

func (o *onlyOnce) around(value any) any {
	o.value = value
	return o
}

// Value implements driver.Valuer.
func (o *onlyOnce) Value() (driver.Value, error) {
	if o.used {
		return nil, errSecondAttempt
	}
	o.used = true
	return driver.DefaultParameterConverter.ConvertValue(o.value)
}
