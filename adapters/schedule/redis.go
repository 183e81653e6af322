package schedule

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisLocks keeps locks in one Redis, with the keys and values of ShedLock, so
// that its Redis providers contend for the same locks (give them safeUpdate, or
// their late unlock frees a lock of somebody else).
//
// Redis may lose locks in a failover; then two holders can be at work for a
// while, and Guard keeps their writes apart. After a flush or a restart no lock is
// granted for MaxLease. Where that is too weak, keep the locks in Postgres.
type RedisLocks struct {
	client *redis.Client
	cfg    RedisConfig
	node   string
}

// RedisConfig configures RedisLocks. The zero value is usable.
type RedisConfig struct {
	// Environment is a part of the keys, as in ShedLock. Default "default".
	Environment string
	// MaxLease is the longest that any lock of the environment is granted for at
	// once: with keep-alive the lease or LockAtLeastFor, whatever is longer;
	// without it LockAtMostFor, which is also how ShedLock's own nodes do it. For so
	// long no lock is granted after Redis was new or emptied. Default 1 min.
	MaxLease time.Duration
	// Tries is how often a command is sent if its reply does not come. Default 3.
	Tries int
}

var (
	_ LockProvider = (*RedisLocks)(nil)
	_ Checker      = (*RedisLocks)(nil)
)

// fenceLife is how long an unused fence is kept; after that the clock is above it.
const fenceLife = 7 * 24 * time.Hour

// NewRedisLocks returns the locks in client's database. It does no I/O. The
// client must heed deadlines of contexts (RedisOptions does).
func NewRedisLocks(client *redis.Client, cfg RedisConfig) (*RedisLocks, error) {
	if cfg.Environment == "" {
		cfg.Environment = "default"
	}
	if cfg.MaxLease == 0 {
		cfg.MaxLease = time.Minute
	}
	if cfg.Tries == 0 {
		cfg.Tries = 3
	}
	var errs []error
	switch {
	case client == nil:
		errs = append(errs, errors.New("client: is nil"))
	case !client.Options().ContextTimeoutEnabled:
		errs = append(errs, errors.New("client: ContextTimeoutEnabled is off: a Redis that hangs would hold up jobs for seconds"))
	}
	if cfg.MaxLease < time.Millisecond {
		errs = append(errs, fmt.Errorf("MaxLease: must be at least 1ms, is %s", cfg.MaxLease))
	}
	if cfg.Tries < 1 {
		errs = append(errs, fmt.Errorf("Tries: must be positive, is %d", cfg.Tries))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("redis locks: %w", err)
	}
	return &RedisLocks{client: client, cfg: cfg, node: host()}, nil
}

// RedisOptions reads the address url, redis://host:port/db, and sets what locks
// need: deadlines are heeded, a silent server is given up within 500 ms, and
// RedisLocks alone decides what is sent again.
func RedisOptions(url string) (*redis.Options, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("redis address: %w", err)
	}
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond, time.Second
	o.MaxRetries, o.DialerRetries = -1, 1
	return o, nil
}

func (r *RedisLocks) lockKey(name string) string {
	return lockPrefix + r.cfg.Environment + ":" + name
}

// keys are those of the scripts.
func (r *RedisLocks) keys(name string) []string {
	return []string{r.lockKey(name), fencePrefix + r.cfg.Environment + ":" + name, "job-epoch:" + r.cfg.Environment}
}

// isoMillis is the time as ShedLock writes it.
const isoMillis = "2006-01-02T15:04:05.000Z"

// Acquire implements LockProvider. A WaitError tells that Redis has been emptied.
func (r *RedisLocks) Acquire(ctx context.Context, c Claim) (Grant, error) {
	g := Grant{Name: c.Name, Lease: c.Lease, Owner: "ADDED:" + c.At.UTC().Format(isoMillis) + "@" + r.node + ":" + c.ID.String()}
	if c.Lease > r.cfg.MaxLease {
		return g, fmt.Errorf("acquire the lock %s: its lease %s is longer than MaxLease %s of the Redis locks: raise MaxLease", c.Name, c.Lease, r.cfg.MaxLease)
	}
	reply, err := r.run(ctx, acquireScript, c.Name, g.Owner, milliseconds(c.Lease), milliseconds(r.cfg.MaxLease), fenceLife.Milliseconds())
	switch {
	case err != nil:
		return g, fmt.Errorf("acquire the lock %s: %w", c.Name, err)
	case reply == 0:
		return g, ErrNotAcquired
	case reply < 0:
		return g, &WaitError{For: time.Duration(-reply) * time.Millisecond}
	}
	g.Fence = reply
	return g, nil
}

// Renew implements LockProvider.
func (r *RedisLocks) Renew(ctx context.Context, g Grant, lease time.Duration) error {
	return r.own(ctx, renewScript, "renew", g, milliseconds(lease))
}

// Release implements LockProvider.
func (r *RedisLocks) Release(ctx context.Context, g Grant, atLeast time.Duration) error {
	return r.own(ctx, releaseScript, "release", g, milliseconds(atLeast), g.Fence)
}

func (r *RedisLocks) own(ctx context.Context, script *redis.Script, what string, g Grant, args ...any) error {
	reply, err := r.run(ctx, script, g.Name, append([]any{g.Owner}, args...)...)
	if err == nil && reply == 0 {
		err = ErrLockLost
	}
	if err != nil {
		return fmt.Errorf("%s the lock %s: %w", what, g.Name, err)
	}
	return nil
}

// run runs a script until it answers. All of them may run twice.
func (r *RedisLocks) run(ctx context.Context, script *redis.Script, name string, args ...any) (reply int64, err error) {
	keys := r.keys(name)
	for range r.cfg.Tries {
		reply, err = script.Run(ctx, r.client, keys, args...).Int64()
		if _, answered := errors.AsType[redis.Error](err); err == nil || answered || ctx.Err() != nil {
			break
		}
	}
	return reply, err
}

// Guard implements LockProvider. tx is of a database that has the outbox line of
// migrations: Redis is asked first, and job_fence refuses those overtaken.
func (r *RedisLocks) Guard(ctx context.Context, tx *sql.Tx, g Grant) error {
	return guardElsewhere(ctx, tx, g)
}

// Check implements Checker: Redis must not evict keys, and must be a single one.
func (r *RedisLocks) Check(ctx context.Context) error {
	var errs []error
	for _, section := range []string{"memory", "cluster"} {
		text, err := r.client.Info(ctx, section).Result()
		if err != nil {
			return fmt.Errorf("check the redis of the locks: %w", err)
		}
		errs = append(errs, unsafe(text))
	}
	return errors.Join(errs...)
}

// unsafe judges what INFO says.
func unsafe(info string) error {
	values := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			values[name] = value
		}
	}
	policy := values["maxmemory_policy"]
	switch {
	case policy != "" && policy != "noeviction" && values["maxmemory"] != "0":
		return fmt.Errorf("%w: redis may evict locks (maxmemory-policy %s): set it to noeviction, or give the locks a redis of their own", ErrUnsafeStore, policy)
	case values["cluster_enabled"] == "1":
		return fmt.Errorf("%w: redis is a cluster, and ShedLock's keys of one lock are in several slots: give the locks a single redis", ErrUnsafeStore)
	}
	return nil
}
