package bench

import (
	"context"
	"errors"
	"time"

	bsm "github.com/bsm/redislock"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/redislock"
)

// The stores' names in results.
const (
	namePostgresLocks = "postgres"
	nameRedisLocks    = "redis"
	nameRedislock     = "bsm/redislock"
	nameShedLock      = "shedlock_statements"
)

// lockLease is what every lock is taken for.
const lockLease = 30 * time.Second

// redisClient has a connection for each worker. All stores in Redis use one of
// the same settings.
func (b *locksBench) redisClient() (*redis.Client, error) {
	o, err := redislock.Options(b.set.Redis)
	if err != nil {
		return nil, err
	}
	o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = 5*time.Second, 5*time.Second, 5*time.Second // a busy machine is not a failure
	o.PoolSize, o.MinIdleConns = b.cfg.Workers, b.cfg.Workers
	return redis.NewClient(o), nil
}

// variants are our stores and the rivals.
func (b *locksBench) variants(ctx context.Context) (all []lockVariant, done func(), err error) {
	pg, err := lock.NewPostgres(b.db)
	if err != nil {
		return nil, nil, err
	}
	if err := pg.Prepare(ctx); err != nil {
		return nil, nil, err
	}
	done = func() { _ = pg.Close() }
	rd, err := redislock.New(b.rdb, redislock.Config{Environment: "bench", MaxLease: lockLease})
	if err != nil {
		return nil, done, err
	}
	if err := b.awaitEpoch(ctx, rd); err != nil {
		return nil, done, err
	}
	return []lockVariant{
		{namePostgresLocks, "adapters/schedule: owner, fence, minimum hold; Postgres that syncs to disk", false, pairOf(pg)},
		{nameRedisLocks, "adapters/schedule: owner, fence, minimum hold, epoch", false, pairOf(rd)},
		{nameRedislock, "v0.10.0: owner; no fence, minimum hold or epoch", true, b.redislock()},
		{nameShedLock, "what ShedLock's JDBC provider sends, with the time of the database: no owner beyond the host, no fence", true, b.shedlock()},
	}, done, nil
}

func pairOf(p lock.Provider) func(context.Context, string) error {
	return func(ctx context.Context, name string) error {
		g, err := p.Acquire(ctx, lock.Request{Name: name, ID: uuid.New(), At: time.Now(), Lease: lockLease})
		if err != nil {
			return err
		}
		return p.Release(ctx, g, 0)
	}
}

// awaitEpoch makes a new Redis one that grants locks. Nothing has been lost: it
// is the benchmark's own, or its locks are.
func (b *locksBench) awaitEpoch(ctx context.Context, locks lock.Provider) error {
	_, err := locks.Acquire(ctx, lock.Request{Name: "bench", ID: uuid.New(), At: time.Now(), Lease: time.Millisecond})
	if wait := (*redislock.WaitError)(nil); errors.As(err, &wait) {
		return b.rdb.Set(ctx, "job-epoch:bench", 1, 0).Err()
	}
	return err
}

func (b *locksBench) redislock() func(context.Context, string) error {
	client := bsm.New(b.rdb)
	return func(ctx context.Context, name string) error {
		l, err := client.Obtain(ctx, "redislock:"+name, lockLease, nil)
		if err != nil {
			return err
		}
		return l.Release(ctx)
	}
}

// shedlock does what ShedLock's provider does: it inserts once, and from then on
// updates the row; each statement is a transaction.
func (b *locksBench) shedlock() func(context.Context, string) error {
	const (
		insert = `INSERT INTO shedlock (name, lock_until, locked_at, locked_by)
VALUES ($1, timezone('utc', CURRENT_TIMESTAMP) + $3::bigint * interval '1 millisecond', timezone('utc', CURRENT_TIMESTAMP), $2)
ON CONFLICT (name) DO UPDATE SET lock_until = timezone('utc', CURRENT_TIMESTAMP) + $3::bigint * interval '1 millisecond', locked_at = timezone('utc', CURRENT_TIMESTAMP), locked_by = $2
WHERE shedlock.name = $1 AND shedlock.lock_until <= timezone('utc', CURRENT_TIMESTAMP)`
		unlock = `UPDATE shedlock SET lock_until = timezone('utc', CURRENT_TIMESTAMP) WHERE name = $1 AND locked_by = $2`
	)
	taking, err1 := b.db.PrepareContext(context.Background(), insert)
	freeing, err2 := b.db.PrepareContext(context.Background(), unlock)
	return func(ctx context.Context, name string) error {
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		name = "shedlock-" + name
		r, err := taking.ExecContext(ctx, name, "host", lockLease.Milliseconds())
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, errors.New("the lock was not acquired"))
		}
		_, err = freeing.ExecContext(ctx, name, "host")
		return err
	}
}
