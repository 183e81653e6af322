package redislock

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/internal/problems"
	"github.com/millrace-go/millrace/adapters/schedule/internal/jobdb"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// Config configures the locks in a Redis. The zero value is usable.
type Config struct {
	// Environment is a part of the keys, as in ShedLock. Default "default".
	Environment string
	// MaxLease is the longest time that any lock of the environment is granted for at
	// once: with keep-alive the lease or AtLeastFor, the longer of them; without it
	// AtMostFor, as ShedLock's own nodes do it. For that long no lock is granted
	// after Redis was new or emptied. Default 1 min.
	MaxLease time.Duration
	// Attempts is how often a command is sent if its reply does not come. Default 3.
	Attempts int
}

func (c Config) withDefaults() Config {
	c.Environment = cmp.Or(c.Environment, defaultEnvironment)
	c.MaxLease = cmp.Or(c.MaxLease, time.Minute)
	c.Attempts = cmp.Or(c.Attempts, 3)
	return c
}

const (
	defaultEnvironment = "default"

	lockPrefix  = "job-lock:"
	fencePrefix = "job-fence:"
	epochPrefix = "job-epoch:"

	// fenceLife is how long an unused fence is kept; after that the clock is above it.
	fenceLife = 7 * 24 * time.Hour
)

type locks struct {
	client *redis.Client
	cfg    Config
	host   string
}

// New returns the locks in client's database. It does no I/O. The client must
// heed deadlines of contexts (one made with Options does).
func New(client *redis.Client, cfg Config) (lock.Provider, error) {
	cfg = cfg.withDefaults()
	var bad problems.List
	problems.NotNil(&bad, "client", client != nil)
	if client != nil {
		bad.Unless(client.Options().ContextTimeoutEnabled, "client", "must have ContextTimeoutEnabled: else a Redis that hangs holds up jobs for seconds")
	}
	problems.AtLeast(&bad, "MaxLease", cfg.MaxLease, time.Millisecond)
	problems.AtLeast(&bad, "Attempts", cfg.Attempts, 1)
	if err := bad.Err(); err != nil {
		return nil, fmt.Errorf("redis locks: %w", err)
	}
	return &locks{client: client, cfg: cfg, host: jobdb.Host()}, nil
}

// WaitError means that Redis is new or was emptied: it grants no locks for a while,
// since some that it has forgotten may still be held. It wraps lock.ErrStoreIsNew
// and lock.ErrNotAcquired.
type WaitError struct{ For time.Duration }

func (e *WaitError) Error() string {
	return fmt.Sprintf("redis is new or was emptied: no locks for another %s", e.For)
}

// Unwrap returns lock.ErrStoreIsNew and lock.ErrNotAcquired.
func (e *WaitError) Unwrap() []error { return []error{lock.ErrStoreIsNew, lock.ErrNotAcquired} }

// Options reads the address url, redis://host:port/db, and sets what locks need:
// deadlines are heeded, a silent server is given up within 500 ms, and the locks
// alone decide what is sent again.
func Options(url string) (*redis.Options, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("redis address: %w", err)
	}
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond, time.Second
	o.MaxRetries, o.DialerRetries = -1, 1
	return o, nil
}

func (l *locks) lockKey(name string) string {
	return lockPrefix + l.cfg.Environment + ":" + name
}

// keys are those of the scripts.
func (l *locks) keys(name string) []string {
	return []string{l.lockKey(name), fencePrefix + l.cfg.Environment + ":" + name, epochPrefix + l.cfg.Environment}
}

// The value of a lock, as ShedLock writes it: ADDED:<time>@<host>. Ours has the id
// of the holder behind it, which ShedLock's nodes only compare.
const (
	valuePrefix = "ADDED:"
	isoMillis   = "2006-01-02T15:04:05.000Z"
)

// Acquire implements lock.Provider.
func (l *locks) Acquire(ctx context.Context, r lock.Request) (lock.Grant, error) {
	g := lock.Grant{Name: r.Name, Lease: r.Lease, Owner: valuePrefix + r.At.UTC().Format(isoMillis) + "@" + l.host + ":" + r.ID.String()}
	if r.Lease > l.cfg.MaxLease {
		return g, fmt.Errorf("acquire the lock %s: its lease %s is longer than MaxLease %s of the Redis locks: raise MaxLease", r.Name, r.Lease, l.cfg.MaxLease)
	}
	reply, err := l.run(ctx, acquireScript, r.Name, g.Owner, jobdb.Milliseconds(r.Lease), jobdb.Milliseconds(l.cfg.MaxLease), fenceLife.Milliseconds())
	switch {
	case err != nil:
		return g, fmt.Errorf("acquire the lock %s: %w", r.Name, err)
	case reply == 0:
		return g, lock.ErrNotAcquired
	case reply < 0:
		return g, &WaitError{For: time.Duration(-reply) * time.Millisecond}
	}
	g.Fence = reply
	return g, nil
}

// Renew implements lock.Provider.
func (l *locks) Renew(ctx context.Context, g lock.Grant, lease time.Duration) error {
	return l.own(ctx, renewScript, "renew", g, jobdb.Milliseconds(lease))
}

// Release implements lock.Provider.
func (l *locks) Release(ctx context.Context, g lock.Grant, atLeast time.Duration) error {
	return l.own(ctx, releaseScript, "release", g, jobdb.Milliseconds(atLeast), g.Fence)
}

func (l *locks) own(ctx context.Context, script *redis.Script, verb string, g lock.Grant, args ...any) error {
	reply, err := l.run(ctx, script, g.Name, append([]any{g.Owner}, args...)...)
	if err == nil && reply == 0 {
		err = lock.ErrLost
	}
	if err != nil {
		return fmt.Errorf("%s the lock %s: %w", verb, g.Name, err)
	}
	return nil
}

// run runs a script until it answers. All of them may run twice.
func (l *locks) run(ctx context.Context, script *redis.Script, name string, args ...any) (reply int64, err error) {
	keys := l.keys(name)
	for range l.cfg.Attempts {
		reply, err = script.Run(ctx, l.client, keys, args...).Int64()
		if _, answered := errors.AsType[redis.Error](err); err == nil || answered || ctx.Err() != nil {
			break
		}
	}
	return reply, err
}

// Guard implements lock.Provider. tx is of a database that has the outbox line of
// migrations: Redis is asked first, and job_fence refuses those overtaken.
func (l *locks) Guard(ctx context.Context, tx *sql.Tx, g lock.Grant) error {
	ok, err := jobdb.Guard(ctx, tx, jobdb.Fence{Name: g.Name, Owner: g.Owner, Number: g.Fence, Lease: g.Lease})
	if err == nil && !ok {
		err = lock.ErrLost
	}
	if err != nil {
		return fmt.Errorf("guard by the lock %s: %w", g.Name, err)
	}
	return nil
}

// Check implements lock.Provider: Redis must not evict keys, and must be a single one.
func (l *locks) Check(ctx context.Context) error {
	var errs []error
	for _, section := range []string{"memory", "cluster"} {
		text, err := l.client.Info(ctx, section).Result()
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
		return fmt.Errorf("%w: redis may evict locks (maxmemory-policy %s): set it to noeviction, or give the locks a redis of their own", lock.ErrUnsafeStore, policy)
	case values["cluster_enabled"] == "1":
		return fmt.Errorf("%w: redis is a cluster, and ShedLock's keys of one lock are in several slots: give the locks a single redis", lock.ErrUnsafeStore)
	}
	return nil
}
