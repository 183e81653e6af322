package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
)

const (
	// A transaction that wrote nothing has no id, and nothing to lose.
	selectXID    = `SELECT coalesce(pg_current_xact_id_if_assigned()::text, '')`
	selectStatus = `SELECT coalesce(pg_xact_status($1::xid8), '')`
)

// commit commits tx. It asks for the transaction's id first, because after a
// lost connection that id is the only way to learn what happened.
func (u *UnitOfWork) commit(ctx context.Context, tx *sql.Tx) error {
	var xid string
	if err := tx.QueryRowContext(ctx, selectXID).Scan(&xid); err != nil {
		return fmt.Errorf("commit: %w", dberror.Map(err))
	}
	err := tx.Commit()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, sql.ErrTxDone): // rolled back when ctx ended
		return fmt.Errorf("commit: %w", ctx.Err())
	case xid == "" || refused(err):
		return fmt.Errorf("commit: %w", dberror.Map(err))
	}
	return u.resolve(ctx, xid, err)
}

// refused reports that the server answered COMMIT with an error and went on: the
// transaction is rolled back. A FATAL error only says that the session ended.
func refused(err error) bool {
	var e *pq.Error
	return errors.As(err, &e) && e.Severity != pqerror.SeverityFatal && e.Severity != pqerror.SeverityPanic
}

// resolve finds out whether the transaction xid committed. The answer is that of
// the server which db reaches now: after a failover to a standby that lagged, an
// id can be unknown there, which is ErrOutcomeUnknown.
func (u *UnitOfWork) resolve(ctx context.Context, xid string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), u.cfg.ResolveWait)
	defer cancel()
	var last error
	for {
		var status string
		err := u.db.QueryRowContext(ctx, selectStatus, xid).Scan(&status)
		switch {
		case err == nil && status == "committed":
			return nil
		case err == nil && status == "aborted":
			return fmt.Errorf("commit: rolled back: %w", cause)
		case err == nil && status == "": // too old to be known
			return fmt.Errorf("commit of transaction %s: %w: %w", xid, ErrOutcomeUnknown, cause)
		case err != nil && ctx.Err() == nil:
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("commit of transaction %s: %w: %w", xid, ErrOutcomeUnknown, errors.Join(cause, last))
		case <-time.After(20 * time.Millisecond): // in progress, or the server is away
		}
	}
}

// worthRetrying reports that Postgres rolled the transaction back for reasons
// that have nothing to do with what it did: 40001 and 40P01.
func worthRetrying(err error) bool {
	var e *pq.Error
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
}

// pause waits a random time before the next attempt, and reports false if ctx
// ended.
func (u *UnitOfWork) pause(ctx context.Context, attempt int) bool {
	longest := u.cfg.RetryWait << min(attempt, 10)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(rand.N(longest) + 1):
		return true
	}
}
