package pgstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

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
func (t *Together) Commit(ctx context.Context, args, into []any, msgs ...outbox.Message) error {
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
	err := t.write(ctx, &togetherCall{t, args, into, query}, msgs)
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
