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

// claim is what this process knows of a partition while it owns it. No other member
// can change that meanwhile: entering a record needs the epoch, and the next owner of
// the partition raises the epoch first.
//
// A key that another process has released stays in keys until its next record, for
// which the database is asked.
type claim struct {
	partition
	number int64 // record.Record.ClaimEpoch

	loading chan struct{} // capacity 1; held while loading
	mu      sync.Mutex
	loaded  bool
	epoch   int64
	keys    map[string]struct{} // keys of which something waits
	locks   map[string]*keyLock
}

// keyLock lets only one delivery of a key at a time ask the database: the deliveries
// of a batch come all at once.
type keyLock struct {
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
		c = &claim{partition: p, number: rec.ClaimEpoch, loading: make(chan struct{}, 1), keys: map[string]struct{}{}, locks: map[string]*keyLock{}}
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
			epoch, keys, err = q.claimPartition(ctx, tx, c.partition)
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

// claimPartition raises the epoch first: an entry that an earlier owner was about to make
// is then either refused or seen below.
func (q *Quarantine) claimPartition(ctx context.Context, tx *sql.Tx, p partition) (epoch int64, keys map[string]struct{}, err error) {
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

// setWaits remembers whether something of key waits.
func (c *claim) setWaits(key []byte, waits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waits {
		c.keys[string(key)] = struct{}{}
	} else {
		delete(c.keys, string(key))
	}
}

// lockKey waits until no other delivery of key holds the lock. The caller must call
// unlock.
func (c *claim) lockKey(ctx context.Context, key []byte) (unlock func(), err error) {
	c.mu.Lock()
	l := c.locks[string(key)]
	if l == nil {
		l = &keyLock{free: make(chan struct{}, 1)}
		c.locks[string(key)] = l
	}
	l.users++
	c.mu.Unlock()
	leave := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(c.locks, string(key))
		}
	}
	select {
	case l.free <- struct{}{}:
		return func() { <-l.free; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, consumer.ErrUnfinished
	}
}
