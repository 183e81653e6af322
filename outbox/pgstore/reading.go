package pgstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

// errDiscard makes database/sql close a connection instead of pooling it.
var errDiscard = driver.ErrBadConn

// guardFrom is the number of open gaps from which gaps with running suspects are left
// out of the read. With fewer gaps, reading them all is cheaper.
const guardFrom = 64

// reading is the reader's side of a session: the ledger and its statements. (a)
// and (b) are separate autocommit statements on one connection: in one
// transaction, or one statement, (b)'s snapshot would be older than (a)'s answer.
type reading struct {
	rel       relations
	ledger    *ledger
	guardFrom int           // see the constant
	high      *atomic.Int64 // ledger.high, for other goroutines
	scan      scanner

	holders, holdersXid, tail, gaps, guarded *sql.Stmt
}

func newReading(ctx context.Context, conn *sql.Conn, rel relations, c outbox.Cursor) (reading, error) {
	r := reading{rel: rel, ledger: newLedger(c), guardFrom: guardFrom, high: new(atomic.Int64), scan: newScanner()}
	r.high.Store(c.Position)
	for _, set := range sessionSettings {
		if _, err := conn.ExecContext(ctx, set); err != nil {
			return r, fmt.Errorf("set up the reader: %w", err)
		}
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{{&r.holders, holdersSQL}, {&r.holdersXid, holdersXidSQL}, {&r.tail, readTailSQL}, {&r.gaps, readGapsSQL}, {&r.guarded, readGuardedSQL}} {
		stmt, err := conn.PrepareContext(ctx, p.text)
		if err != nil {
			return r, fmt.Errorf("set up the reader: %w", err)
		}
		*p.stmt = stmt
	}
	return r, nil
}

// poll is one (a) and one (b).
func (r *reading) poll(ctx context.Context, limit, maxBytes int) (outbox.Batch, error) {
	p, err := r.observe(ctx)
	if err != nil {
		return outbox.Batch{}, err
	}
	entries, cut, err := r.read(ctx, p, limit, maxBytes)
	if err != nil {
		return outbox.Batch{}, err
	}
	found := make([]int64, len(entries))
	for i := range entries {
		found[i] = entries[i].Position
		if i > 0 && found[i] <= found[i-1] {
			return outbox.Batch{}, fmt.Errorf("read the log: position %d follows %d: the index on outbox.position is damaged, run REINDEX", found[i], found[i-1])
		}
	}
	moved := r.ledger.apply(found, cut)
	r.high.Store(r.ledger.high)
	return outbox.Batch{Entries: entries, Cursor: r.ledger.cursor(), More: cut, Moved: moved}, nil
}

// observe is (a), needed only while gaps are open.
func (r *reading) observe(ctx context.Context) (probe, error) {
	if len(r.ledger.ranges) == 0 {
		return probe{}, nil
	}
	guarded := len(r.ledger.ranges) >= r.guardFrom
	read := r.readHolders
	if guarded {
		read = r.readHoldersXid
	}
	holders, err := read(ctx)
	if err != nil {
		return probe{}, fmt.Errorf("read the holders of the sequence: %w", err)
	}
	return r.ledger.observe(holders, guarded), nil
}

func (r *reading) readHolders(ctx context.Context) ([]holder, error) {
	rows, err := r.holders.QueryContext(ctx, r.rel.database, r.rel.sequence)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var holders []holder
	for rows.Next() {
		var h holder
		if err := rows.Scan(&h.virtual, &h.xid); err != nil {
			return nil, err
		}
		holders = append(holders, h)
	}
	return holders, rows.Err()
}

// readHoldersXid also finds each holder's top transaction id, the oldest it has.
func (r *reading) readHoldersXid(ctx context.Context) ([]holder, error) {
	rows, err := r.holdersXid.QueryContext(ctx, r.rel.database, r.rel.sequence)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	top := map[string]uint64{}
	holds := map[string]bool{}
	for rows.Next() {
		var virtual, xid, xmax string
		var holder bool
		if err := rows.Scan(&virtual, &xid, &holder, &xmax); err != nil {
			return nil, err
		}
		if holder {
			holds[virtual] = true
		}
		if xid == "" {
			continue
		}
		full, err := fullXid(xid, xmax)
		if err != nil {
			return nil, err
		}
		if old, ok := top[virtual]; !ok || full < old {
			top[virtual] = full
		}
	}
	holders := make([]holder, 0, len(holds))
	for virtual := range holds {
		h := holder{virtual: virtual}
		if full, ok := top[virtual]; ok {
			h.xid = strconv.FormatUint(full, 10)
		}
		holders = append(holders, h)
	}
	return holders, rows.Err()
}

// fullXid widens a running transaction's 32-bit xid to the 64 bits of xid8. It
// cannot be 2^31 away from the next one, xmax, but may be slightly ahead of it:
// the snapshot is older than the reading of the locks.
func fullXid(xid, xmax string) (uint64, error) {
	low, err := strconv.ParseUint(xid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("transaction id %q: %w", xid, err)
	}
	next, err := strconv.ParseUint(xmax, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("transaction id %q: %w", xmax, err)
	}
	return uint64(int64(next) + int64(int32(uint32(low)-uint32(next)))), nil
}

// read is (b). cut says that there may be more behind the last entry.
func (r *reading) read(ctx context.Context, p probe, limit, maxBytes int) (entries []outbox.Entry, cut bool, err error) {
	if p.skipped != nil {
		lo, hi := bounds(p.ranges)
		rows, err := r.guarded.QueryContext(ctx, r.ledger.high, pq.Array(lo), pq.Array(hi), limit, pq.Array(p.skipped))
		if err != nil {
			return nil, false, err
		}
		entries, cut, err := r.scan.all(rows, limit, maxBytes)
		if err != nil || len(entries) == 0 || entries[0].Position != 0 {
			return entries, cut, err
		}
		p.ranges = r.ledger.ranges // a suspect has ended meanwhile: ask again, for all
	}
	var rows *sql.Rows
	if len(p.ranges) == 0 {
		rows, err = r.tail.QueryContext(ctx, r.ledger.high, limit)
	} else {
		lo, hi := bounds(p.ranges)
		rows, err = r.gaps.QueryContext(ctx, r.ledger.high, pq.Array(lo), pq.Array(hi), limit)
	}
	if err != nil {
		return nil, false, err
	}
	return r.scan.all(rows, limit, maxBytes)
}

func bounds(ranges []outbox.Range) (lo, hi []int64) {
	lo, hi = make([]int64, len(ranges)), make([]int64, len(ranges))
	for i, g := range ranges {
		lo[i], hi[i] = g.Lo, g.Hi
	}
	return lo, hi
}
