package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// EnableHistory makes the indexes by aggregate and by key, on all partitions and
// for later ones. Writers go on meanwhile; building waits for transactions that
// are open at the time. progress, if not nil, is told each statement before it
// runs. It needs the owner of the log, and can be called again after an error,
// which is ErrInUse if an open transaction was in the way.
func (s *Store) EnableHistory(ctx context.Context, progress func(statement string)) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("enable history: %w", err)
	}
	defer conn.Close()
	rows, err := conn.QueryContext(ctx, enableHistorySQL)
	if err != nil {
		return enableError(err)
	}
	statements, err := texts(rows)
	if err != nil {
		return enableError(err)
	}
	for _, statement := range statements {
		if progress != nil {
			progress(statement)
		}
		if strings.Contains(statement, " ATTACH ") {
			statement = impatientSQL + statement + patientSQL
		}
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return enableError(err)
		}
	}
	return nil
}

func enableError(err error) error {
	if pq.As(err, pqerror.LockNotAvailable) != nil {
		err = ErrInUse
	}
	return fmt.Errorf("enable history: %w", err)
}

func texts(rows *sql.Rows) (all []string, err error) {
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, rows.Err()
}
