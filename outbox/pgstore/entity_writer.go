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
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/internal/problems"
)

// ErrNoEntity means that the entity statement returned no row: a version check
// failed, or there is no such entity. Nothing was appended, and the transaction is
// still usable. It wraps sql.ErrNoRows.
var ErrNoEntity = fmt.Errorf("entity statement returned no row: %w", sql.ErrNoRows)

// ErrOutcomeUnknown means that no answer came, or none that could be read: the
// transaction may have committed or not.
var ErrOutcomeUnknown = errors.New("the transaction may have committed or not")

// EntityWriterConfig configures an EntityWriter. The zero value is usable.
type EntityWriterConfig struct {
	// MaxPayloadBytes is the largest payload that Append and Commit take, in bytes.
	// Default 1,000,000.
	MaxPayloadBytes int
}

// EntityWriter writes an entity and appends its messages in one statement, and so in
// one round trip: Append in a transaction of the caller, Commit as a transaction of
// its own. Make one for each entity statement. It is safe for concurrent use.
//
// Every row that the statement returns is locked before the first position is drawn.
// So the messages of one key keep their commit order, as they do when the entity is
// written first and Writer.Append is called after it.
type EntityWriter struct {
	db      *sql.DB
	inserts inserts
	query   string // the entity statement without messages
	params  int
	cfg     EntityWriterConfig
}

var parameter = regexp.MustCompile(`\$(\d+)`)

// NewEntityWriter returns the writer of the entities that query inserts, updates or
// deletes. query is one statement of fixed text with parameters from $1 on. It must
// end with a RETURNING clause ("RETURNING 1" will do) and must not begin with a WITH
// that changes data itself. It does no I/O.
func NewEntityWriter(db *sql.DB, query string, cfg EntityWriterConfig) (*EntityWriter, error) {
	query = strings.TrimRight(query, "; \t\r\n")
	var p problems.List
	p.NotNil("db", db != nil)
	p.Unless(query != "", "query", "must not be empty")
	p.Unless(strings.Contains(strings.ToLower(query), "returning"), "query", "must have a RETURNING clause: end it with RETURNING 1")
	problems.AtLeast(&p, "MaxPayloadBytes", cfg.MaxPayloadBytes, 0)
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("entity writer: %w", err)
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
	w := &EntityWriter{db: db, query: query, params: params, cfg: cfg}
	w.inserts.one.text = entityHead + query + fmt.Sprintf(entityOne, numbers...)   //nolint:staticcheck // numbers has the nine
	w.inserts.many.text = entityHead + query + fmt.Sprintf(entityMany, numbers...) //nolint:staticcheck // numbers has the nine
	return w, nil
}

// Prepare prepares the statements, without which Append and Commit take two round
// trips. Call it once at start; it needs a free connection of the pool. Transactions
// of another *sql.DB work without it.
func (w *EntityWriter) Prepare(ctx context.Context) error { return w.inserts.prepare(ctx, w.db) }

// Close closes the prepared statements. The database stays open.
func (w *EntityWriter) Close() error { return w.inserts.close() }

// Append runs the entity statement with args in tx, scans the first row that it
// returns into into (nil: nowhere), and stores msgs. If it returns no row, nothing
// is stored and the error is ErrNoEntity. Otherwise it behaves as
// outbox.Writer.Append: bad messages are refused before any I/O, and after an error
// of the database tx can only be rolled back. Without msgs it runs the statement
// alone.
//
// The messages are made before the statement runs, so they cannot carry what it
// returns, such as a version that the database counts up. Know the version (read it,
// check it in the statement), or use Writer.Append.
func (w *EntityWriter) Append(ctx context.Context, tx *sql.Tx, args, into []any, msgs ...outbox.Message) error {
	return w.write(args, into, msgs, func(s *statement, args []any) (*sql.Rows, error) {
		if stmt := s.prepared.Load(); stmt != nil {
			rows, err := tx.StmtContext(ctx, stmt).QueryContext(ctx, args...)
			if err == nil || !notSent(err) {
				return rows, err
			}
		}
		return tx.QueryContext(ctx, s.text, args...)
	})
}

// Commit is Append as a transaction of its own. Postgres commits the statement by
// itself: entity, messages and commit take one round trip, where BEGIN, statement,
// insert and COMMIT take four. Call Writer.Wake, or wake the relay, after it.
//
// An error of the server, of the messages, or ErrNoEntity means that nothing was
// written. ErrOutcomeUnknown means that the connection was lost, or that into could
// not be filled; the statement is never run a second time. Where that is not enough,
// use a transaction whose outcome can be asked for by its id (pg_xact_status).
func (w *EntityWriter) Commit(ctx context.Context, args, into []any, msgs ...outbox.Message) error {
	if len(msgs) == 0 {
		return errors.New("append outbox: no messages: run the statement in a transaction")
	}
	once := &onlyOnce{}
	err := w.write(args, into, msgs, func(s *statement, args []any) (*sql.Rows, error) {
		args[len(args)-1] = once.around(args[len(args)-1])
		if stmt := s.prepared.Load(); stmt != nil {
			return stmt.QueryContext(ctx, args...)
		}
		return w.db.QueryContext(ctx, s.text, args...)
	})
	if err != nil && once.used && !answered(err) {
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return err
}

// queryFunc runs a statement in the transaction of Append or Commit.
type queryFunc func(s *statement, args []any) (*sql.Rows, error)

func (w *EntityWriter) write(args, into []any, msgs []outbox.Message, query queryFunc) error {
	if len(args) != w.params {
		return fmt.Errorf("append outbox: the entity statement has %d parameters and was given %d", w.params, len(args))
	}
	if len(msgs) == 0 {
		return readEntity(query, &statement{text: w.query}, args, into)
	}
	msgs, err := outbox.Prepare(msgs, w.cfg.MaxPayloadBytes)
	if err != nil {
		return fmt.Errorf("append outbox: %w", err)
	}
	messages, err := appendArgs(msgs)
	if err == nil {
		all := append(append(make([]any, 0, len(args)+len(messages)), args...), messages...)
		err = readEntity(query, w.inserts.forMessages(len(msgs)), all, into)
	}
	if errors.Is(err, sql.ErrTxDone) {
		err = errors.Join(outbox.ErrTxDone, err)
	}
	if err != nil {
		return fmt.Errorf("append outbox: %w", err)
	}
	return nil
}

// readEntity runs s and reads all its rows, the first one into into.
func readEntity(query queryFunc, s *statement, args, into []any) error {
	rows, err := query(s, args)
	if err != nil {
		return err
	}
	defer rows.Close()
	returned := 0
	for rows.Next() { // to the end: the insert may still be refused after the last row
		if returned++; returned > 1 || len(into) == 0 {
			continue
		}
		if err := rows.Scan(into...); err != nil {
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

// answered reports that the server refused the statement, or returned no row.
func answered(err error) bool {
	var server *pq.Error
	return errors.Is(err, ErrNoEntity) || errors.As(err, &server) && server.Severity != pqerror.SeverityFatal && server.Severity != pqerror.SeverityPanic
}

// onlyOnce keeps database/sql from running a statement again on another connection
// when the first one broke: it asks for the arguments again before each attempt.
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
