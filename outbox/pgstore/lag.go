package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

// RelayLag is how far one relay is behind.
type RelayLag struct {
	Relay    string `json:"relay"`
	Position int64  `json:"position"` // of the saved cursor
	outbox.Lag
	Gaps  int64  `json:"gaps"` // positions not yet filled by anybody
	Epoch int64  `json:"epoch"`
	Owner string `json:"owner"` // empty if nobody leads
	Leads bool   `json:"leads"` // the owner's lease still runs
}

const relaysSQL = `
SELECT c.relay, c.position, c.gaps, c.epoch, c.owner, c.lease_until > clock_timestamp(),
       (SELECT count(*) FROM outbox_parked p WHERE p.relay = c.relay AND p.state IN ('parked', 'redrive', 'skip', 'discard'))
  FROM outbox_cursor c ORDER BY c.relay`

// One snapshot for both counts: entries in the gaps, and behind the cursor.
const pendingSQL = `
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0) FROM (
 SELECT created_at FROM outbox WHERE position > $1
 UNION ALL
 SELECT x.created_at FROM unnest($2::bigint[], $3::bigint[]) AS g(lo, hi) JOIN outbox x ON x.position BETWEEN g.lo AND g.hi) m`

const relayNamesSQL = `SELECT relay FROM outbox_cursor ORDER BY relay`

// Relays lists the names of the relays that have a cursor, in their order; none
// before the first has run.
func (s *Store) Relays(ctx context.Context) ([]string, error) {
	var names []string
	rows, err := s.db.QueryContext(ctx, relayNamesSQL)
	if err != nil {
		return nil, fmt.Errorf("list the relays: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("list the relays: %w", err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the relays: %w", err)
	}
	return names, nil
}

// LagOf reports how far the named relay is behind, as Lag does. It is an error if
// that has not run yet.
func (s *Store) LagOf(ctx context.Context, relay string) (outbox.Lag, error) {
	lags, err := s.Lag(ctx)
	if err != nil {
		return outbox.Lag{}, err
	}
	for _, l := range lags {
		if l.Relay == relay {
			return l.Lag, nil
		}
	}
	return outbox.Lag{}, fmt.Errorf("relay %q has not run yet: it has no cursor", relay)
}

// Lag reports every relay that has a cursor. It counts rows, which takes time in
// proportion to the backlog.
func (s *Store) Lag(ctx context.Context) ([]RelayLag, error) {
	rows, err := s.db.QueryContext(ctx, relaysSQL)
	if err != nil {
		return nil, fmt.Errorf("read the cursors: %w", err)
	}
	defer rows.Close()
	var lags []RelayLag
	var cursors []outbox.Cursor
	for rows.Next() {
		var l RelayLag
		var c outbox.Cursor
		var gaps []byte
		if err := rows.Scan(&l.Relay, &c.Position, &gaps, &l.Epoch, &l.Owner, &l.Leads, &l.Parked); err != nil {
			return nil, fmt.Errorf("read the cursors: %w", err)
		}
		if c.Gaps, err = decodeGaps(gaps, c.Position); err != nil {
			return nil, fmt.Errorf("cursor of %s: %w", l.Relay, err)
		}
		l.Position, l.Gaps = c.Position, c.Missing()
		lags, cursors = append(lags, l), append(cursors, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the cursors: %w", err)
	}
	rows.Close()
	for i := range lags {
		var seconds float64
		lo, hi := bounds(cursors[i].Gaps)
		err := s.db.QueryRowContext(ctx, pendingSQL, cursors[i].Position, pq.Array(lo), pq.Array(hi)).Scan(&lags[i].Messages, &seconds)
		if err != nil {
			return nil, fmt.Errorf("count what is pending: %w", err)
		}
		lags[i].Age = time.Duration(seconds * float64(time.Second))
	}
	return lags, nil
}
