package quarantine

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/outbox/record"
)

// partition is one partition for one group.
type partition struct {
	group, topic string
	number       int32
}

// claim is what this process knows of a partition while it owns it. What another
// member does with the partition meanwhile cannot be: entering a record needs the
// epoch, and anyone who claims the partition next raises that.
//
// A key that another process has freed stays in keys until the next record of it,
// which asks the database.
type claim struct {
	partition
	number int64 // record.Record.ClaimEpoch

	loading chan struct{} // capacity 1; held while loading
	mu      sync.Mutex
	loaded  bool
	epoch   int64
	keys    map[string]struct{} // keys of which something waits
	turns   map[string]*turn
}

// turn lets one delivery of a key at a time through what asks the database:
// those of a batch come all at once.
type turn struct {
	free  chan struct{} // capacity 1
	users int
}

// claimOf is the claim that rec was received under, nil if it has been replaced.
func (q *Quarantine) claimOf(rec *record.Record) *claim {
	p := partition{rec.Group, rec.Topic, rec.Partition}
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.claims[p]
	if c == nil || c.number < rec.ClaimEpoch {
		c = &claim{partition: p, number: rec.ClaimEpoch, loading: make(chan struct{}, 1), keys: map[string]struct{}{}, turns: map[string]*turn{}}
		q.claims[p] = c
	}
	if c.number > rec.ClaimEpoch {
		return nil
	}
	return c
}

// drop forgets c, so that the next delivery of the partition claims it again.
func (q *Quarantine) drop(c *claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims[c.partition] == c {
		delete(q.claims, c.partition)
	}
}

// load makes c known to the database and learns what waits. Deliveries that come
// meanwhile wait for it.
func (q *Quarantine) load(ctx context.Context, c *claim) error {
	if c.isLoaded() {
		return nil
	}
	select {
	case c.loading <- struct{}{}:
		defer func() { <-c.loading }()
	case <-ctx.Done():
		return consumer.ErrUnfinished
	}
	if c.isLoaded() {
		return nil
	}
	var epoch int64
	var keys map[string]struct{}
	err := q.persist(ctx, func(ctx context.Context) error {
		return inTx(ctx, q.db, func(tx *sql.Tx) (err error) {
			epoch, keys, err = q.take(ctx, tx, c.partition)
			return err
		})
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded, c.epoch, c.keys = true, epoch, keys
	return nil
}

// take raises the epoch first: an entry that an earlier owner was about to make
// is then either refused or seen below.
func (q *Quarantine) take(ctx context.Context, tx *sql.Tx, p partition) (epoch int64, keys map[string]struct{}, err error) {
	if err := tx.QueryRowContext(ctx, claimSQL, p.group, p.topic, p.number).Scan(&epoch); err != nil {
		return 0, nil, fmt.Errorf("claim %s/%d: %w", p.topic, p.number, err)
	}
	if q.cfg.Keep > 0 {
		if _, err := tx.ExecContext(ctx, pruneSQL, p.group, p.topic, p.number, q.cfg.Keep.Seconds()); err != nil {
			return 0, nil, fmt.Errorf("prune %s/%d: %w", p.topic, p.number, err)
		}
	}
	rows, err := tx.QueryContext(ctx, waitingKeysSQL, p.group, p.topic, p.number)
	if err != nil {
		return 0, nil, fmt.Errorf("waiting keys of %s/%d: %w", p.topic, p.number, err)
	}
	defer rows.Close()
	keys = map[string]struct{}{}
	for rows.Next() {
		var key []byte
		if err := rows.Scan(&key); err != nil {
			return 0, nil, fmt.Errorf("waiting keys of %s/%d: %w", p.topic, p.number, err)
		}
		keys[string(key)] = struct{}{}
	}
	return epoch, keys, rows.Err()
}

func (c *claim) isLoaded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loaded
}

func (c *claim) waits(key []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.keys[string(key)]
	return ok
}

// note keeps in mind whether something of key waits.
func (c *claim) note(key []byte, waits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waits {
		c.keys[string(key)] = struct{}{}
	} else {
		delete(c.keys, string(key))
	}
}

// await waits for the turn of a delivery of key, which ends with done.
func (c *claim) await(ctx context.Context, key []byte) (done func(), err error) {
	c.mu.Lock()
	t := c.turns[string(key)]
	if t == nil {
		t = &turn{free: make(chan struct{}, 1)}
		c.turns[string(key)] = t
	}
	t.users++
	c.mu.Unlock()
	leave := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(c.turns, string(key))
		}
	}
	select {
	case t.free <- struct{}{}:
		return func() { <-t.free; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, consumer.ErrUnfinished
	}
}
