package schedule

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/redis/go-redis/v9"
)

// RedisOperatorConfig configures a RedisOperator. The zero value is usable.
type RedisOperatorConfig struct {
	// Environment is the one of RedisConfig whose locks are meant. Default: Locks
	// lists those of all, and Unlock frees one of "default".
	Environment string
	// DB is the database of the jobs, with the tables of the outbox line: there an
	// unlock is written into job_audit, and refused to the guarded writes of the
	// holder at once. Default none: an unlock leaves no trace, and the holder's
	// guarded writes are refused only after the next holder's first one.
	DB *sql.DB
}

// RedisOperator looks at the locks that RedisLocks and ShedLock's nodes keep in a
// Redis, and takes them away from their holders. It is safe for concurrent use.
type RedisOperator struct {
	client *redis.Client
	cfg    RedisOperatorConfig
}

// NewRedisOperator returns an operator on client's database. It does no I/O.
func NewRedisOperator(client *redis.Client, cfg RedisOperatorConfig) (*RedisOperator, error) {
	if client == nil {
		return nil, errors.New("locks in redis: client: is nil")
	}
	return &RedisOperator{client: client, cfg: cfg}, nil
}

// StoreRedis and StorePostgres are the stores of a LockState.
const (
	StorePostgres = "postgres"
	StoreRedis    = "redis"
)

const (
	lockPrefix  = "job-lock:"
	fencePrefix = "job-fence:"
)

// Locks lists the locks that are held, by environment and name. It scans the
// database a thousand keys at a time, which does not hold up others, and needs
// Redis 6; a lock that is taken or freed meanwhile may be in the list or not. A
// lock that is free is no key in Redis, and so is never listed. An environment
// whose name has a colon is taken for its first part, unless it was configured.
func (o *RedisOperator) Locks(ctx context.Context) ([]LockState, error) {
	pattern := lockPrefix + "*"
	if o.cfg.Environment != "" {
		pattern = lockPrefix + literal.Replace(o.cfg.Environment) + ":*"
	}
	found := map[string]LockState{}
	for cursor := uint64(0); ; {
		keys, next, err := o.client.ScanType(ctx, cursor, pattern, 1000, "string").Result()
		if err == nil {
			err = o.look(ctx, keys, found)
		}
		if err != nil {
			return nil, fmt.Errorf("list the locks in redis: %w", err)
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	all := make([]LockState, 0, len(found))
	for _, l := range found {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b LockState) int {
		return cmp.Or(cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

// literal makes text stand for itself in a pattern.
var literal = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// look adds the locks under keys to found, those that are still there, as of one moment.
func (o *RedisOperator) look(ctx context.Context, keys []string, found map[string]LockState) error {
	if len(keys) == 0 {
		return nil
	}
	var now *redis.TimeCmd
	owners, lefts, fences := make([]*redis.StringCmd, len(keys)), make([]*redis.DurationCmd, len(keys)), make([]*redis.StringCmd, len(keys))
	_, err := o.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		now = p.Time(ctx)
		for i, key := range keys {
			owners[i], lefts[i], fences[i] = p.Get(ctx, key), p.PTTL(ctx, key), p.Get(ctx, fencePrefix+strings.TrimPrefix(key, lockPrefix))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for i, key := range keys {
		owner, err := owners[i].Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		l := o.state(key, owner)
		if left := lefts[i].Val(); left >= 0 { // else it never ends
			l.Left, l.Until = left, now.Val().Add(left).UTC()
		}
		l.Fence, _ = fences[i].Int64() // 0 if no node of ours has had it
		found[key] = l
	}
	return nil
}

// state is what key and value of a lock say.
func (o *RedisOperator) state(key, owner string) LockState {
	l := LockState{Store: StoreRedis, Key: key, Owner: owner, Held: true}
	rest := strings.TrimPrefix(key, lockPrefix)
	if name, ok := strings.CutPrefix(rest, o.cfg.Environment+":"); ok && o.cfg.Environment != "" {
		l.Environment, l.Name = o.cfg.Environment, name
	} else {
		l.Environment, l.Name, _ = strings.Cut(rest, ":")
	}
	if at, _, ok := strings.Cut(strings.TrimPrefix(owner, "ADDED:"), "@"); ok {
		l.Since, _ = time.Parse(time.RFC3339, at)
	}
	return l
}

// Held returns the lock name of the configured environment, or ErrNoSuchLock.
func (o *RedisOperator) Held(ctx context.Context, name string) (LockState, error) {
	key := lockPrefix + cmp.Or(o.cfg.Environment, "default") + ":" + name
	found := map[string]LockState{}
	if err := o.look(ctx, []string{key}, found); err != nil {
		return LockState{}, fmt.Errorf("look at the lock %s in redis: %w", name, err)
	}
	l, ok := found[key]
	if !ok {
		return l, ErrNoSuchLock
	}
	return l, nil
}

// Unlock takes the lock away from whoever holds it and frees it, as
// Operator.Unlock does. With a DB it first writes down that it does; if Redis then
// does not answer, the holder may still have the lock, but its guarded writes are
// refused. A lock that has passed to another holder meanwhile is left to that one,
// with ErrNoSuchLock. It returns the lock as it was.
func (o *RedisOperator) Unlock(ctx context.Context, name, actor, note string) (was LockState, err error) {
	if was, err = o.Held(ctx, name); err != nil {
		return was, fmt.Errorf("unlock %s: %w", name, err)
	}
	if o.cfg.DB != nil {
		if err := o.record(ctx, was, actor, note); err != nil {
			return was, fmt.Errorf("unlock %s: write it down: %w", name, err)
		}
	}
	freed, err := takeAwayScript.Run(ctx, o.client, []string{was.Key}, was.Owner).Int()
	if err == nil && freed == 0 {
		err = ErrNoSuchLock
	}
	if err != nil {
		return was, fmt.Errorf("unlock %s: %w", name, err)
	}
	return was, nil
}

// record writes the unlock down, and refuses the holder's fence from now on.
func (o *RedisOperator) record(ctx context.Context, was LockState, actor, note string) error {
	history := PostgresHistory{db: o.cfg.DB}
	err := history.transaction(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, patienceSQL); err != nil {
			return err
		}
		if was.Fence > 0 && lockName.MatchString(was.Name) {
			if _, err := tx.ExecContext(ctx, refuseFenceSQL, was.Name, cut("unlocked by "+actor, 255), was.Fence); err != nil {
				return err
			}
		}
		detail := fmt.Sprintf("held by %s in redis under %s, fence %d", was.Owner, was.Key, was.Fence)
		_, err := tx.ExecContext(ctx, auditSQL, actor, "unlock", storable(cut(was.Name, 64)), storable(detail), storable(note))
		return err
	})
	if pq.As(err, pqerror.LockNotAvailable) != nil {
		return errors.New("its holder has a guarded transaction open: try again")
	}
	return err
}
