package pgstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

var _ outbox.Reconsiderer = (*session)(nil)

// dueBytes bounds the payloads that one call of Due holds in memory.
const dueBytes = 8 << 20

// Due implements outbox.Reconsiderer.
func (s *session) Due(ctx context.Context) ([]outbox.Entry, error) {
	s.controlling.Lock()
	defer s.controlling.Unlock()
	rows, err := s.control.QueryContext(ctx, dueSQL, s.relay, outbox.ReasonBehind)
	if err != nil {
		return nil, err
	}
	entries, _, err := newScanner().all(rows, 100, dueBytes)
	return entries, err
}

// Reconsidered implements outbox.Reconsiderer. The next renewal of the lease
// finds the decision and has the session reopened.
func (s *session) Reconsidered(ctx context.Context, accepted, refused []outbox.Entry) error {
	s.controlling.Lock()
	defer s.controlling.Unlock()
	return inTx(ctx, s.control.BeginTx, func(tx *sql.Tx) error {
		if len(refused) > 0 {
			positions := make([]int64, len(refused))
			for i := range refused {
				positions[i] = refused[i].Position
			}
			if _, err := tx.ExecContext(ctx, refusedAgainSQL, s.relay, pq.Array(positions)); err != nil {
				return err
			}
		}
		if len(accepted) == 0 {
			return nil
		}
		topics, keys := make([]string, len(accepted)), make([]string, len(accepted))
		for i := range accepted {
			topics[i], keys[i] = accepted[i].Topic, accepted[i].Key
		}
		rows, err := tx.QueryContext(ctx, redriveHeadsSQL, s.relay, pq.Array(topics), pq.Array(keys))
		if err != nil {
			return err
		}
		positions, err := positionsOf(rows)
		if err != nil {
			return err
		}
		note := fmt.Sprintf("the broker would take %d messages now", len(accepted))
		_, err = tx.ExecContext(ctx, auditSQL, "relay", string(Redrive), s.relay, pq.Array(positions), note)
		return err
	})
}
