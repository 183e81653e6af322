package schedule

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// guardElsewhere guards a transaction by a lock whose store Postgres cannot ask:
// the table job_fence has the highest fence that was seen, and refuses lower ones.
// A holder that was overtaken may write until its successor does for the first
// time, but never after that.
func guardElsewhere(ctx context.Context, tx *sql.Tx, g Grant) error {
	var set string
	err := tx.QueryRowContext(ctx, guardSeenSQL, g.Name, g.Owner, g.Fence, g.idle()).Scan(&set)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRowContext(ctx, guardRaiseSQL, g.Name, g.Owner, g.Fence, g.idle()).Scan(&set)
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrLockLost
	}
	if err != nil {
		return fmt.Errorf("guard by the lock %s: %w", g.Name, err)
	}
	return nil
}
