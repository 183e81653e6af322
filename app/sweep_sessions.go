package app

import (
	"context"
	"fmt"
	"time"
)

const (
	// sweepAfter keeps sessions for a while after they expired, for those whose
	// clocks are behind.
	sweepAfter = 24 * time.Hour
	sweepBatch = 1000
)

// SweepSessions removes sessions that expired a day ago or earlier, in small
// transactions, and returns how many. It ends early when ctx does; what is left
// then is for the next run. Several may run at once.
func (a *Access) SweepSessions(ctx context.Context) (int, error) {
	before := a.cfg.Now().Add(-sweepAfter)
	for total := 0; ; {
		removed := 0
		err := a.uow.Do(ctx, func(ctx context.Context, tx Tx) (err error) {
			removed, err = tx.Sessions().Sweep(ctx, before, sweepBatch)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("sweep sessions: %w", err)
		}
		if total += removed; removed < sweepBatch {
			return total, nil
		}
	}
}
