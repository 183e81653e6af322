package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// errUnanswered means that the connection was lost during COMMIT: the transaction
// may have committed or not. Running it again shows which, by the rows of its events.
var errUnanswered = errors.New("commit was not answered")

func (i *Inbox) commit(ctx context.Context, tx *sql.Tx, w *work) error {
	err := tx.Commit()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrTxDone), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("commit: %w", errors.Join(ended(ctx), err))
	case refused(err):
		return fmt.Errorf("commit: %w", err)
	}
	for _, it := range w.items {
		it.before = it.before || it.mine && !it.failed
	}
	return fmt.Errorf("%w: %w", errUnanswered, err)
}

// refused reports that the server rolled the transaction back and went on. A
// FATAL error only says that the session ended.
func refused(err error) bool {
	if errors.Is(err, pq.ErrInFailedTransaction) { // an effect went on after an error
		return true
	}
	var e *pq.Error
	return errors.As(err, &e) && e.Severity != pqerror.SeverityFatal && e.Severity != pqerror.SeverityPanic
}

// serialization reports that Postgres ended the transaction for reasons that have
// nothing to do with what it did.
func serialization(err error) bool {
	return pq.As(err, pqerror.TRSerializationFailure, pqerror.TRDeadlockDetected) != nil
}

// lost reports that the connection is gone, or could not be made.
func lost(err error) bool {
	var server *pq.Error
	if errors.As(err, &server) {
		return server.Severity == pqerror.SeverityFatal || server.Severity == pqerror.SeverityPanic
	}
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
}

func worthRetrying(err error) bool {
	return serialization(err) || errors.Is(err, errUnanswered) || lost(err)
}

// pause waits a random time before the next attempt, and reports false if ctx
// ended.
func (i *Inbox) pause(ctx context.Context, attempt int) bool {
	longest := i.cfg.RetryWait << min(attempt, 10)
	timer := time.NewTimer(rand.N(longest) + 1)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
