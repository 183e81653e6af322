package redislock

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/schedule/internal/jobdb"
	"github.com/millrace-go/millrace/adapters/schedule/lock"
)

// OperatorConfig configures an Operator. The zero value is usable.
type OperatorConfig struct {
	// Environment is the one of Config whose locks are meant. Default: Locks
	// lists those of all, and Unlock frees one of "default".
	Environment string
	// DB is the database of the jobs, with the tables of the outbox line: there an
	// unlock is written into job_audit, and refused to the guarded writes of the
	// holder at once. Default none: an unlock leaves no trace, and the holder's
	// guarded writes are refused only after the next holder's first one.
	DB *sql.DB
}

// Operator lists the locks that our nodes and ShedLock's keep in a Redis, and takes
// them away from their holders. It is safe for concurrent use.
type Operator struct {
	client *redis.Client
	cfg    OperatorConfig
}

// NewOperator returns an operator on client's database. It does no I/O.
func NewOperator(client *redis.Client, cfg OperatorConfig) (*Operator, error) {
	if client == nil {
		return nil, errors.New("operator of redis locks: client: must not be nil")
	}
	return &Operator{client: client, cfg: cfg}, nil
}

// Locks lists the locks that are held, by environment and name. It scans the
// database a thousand keys at a time, which does not hold up others, and needs
// Redis 6; a lock that is taken or freed meanwhile may be in the list or not. A
// lock that is free is no key in Redis, and so is never listed. An environment
// whose name has a colon is taken for its first part, unless it was configured.
func (o *Operator) Locks(ctx context.Context) ([]lock.State, error) {
	pattern := lockPrefix + "*"
	if o.cfg.Environment != "" {
		pattern = lockPrefix + escaper.Replace(o.cfg.Environment) + ":*"
	}
	found := map[string]lock.State{}
	for cursor := uint64(0); ; {
		keys, next, err := o.client.ScanType(ctx, cursor, pattern, 1000, "string").Result()
		if err == nil {
			err = o.read(ctx, keys, found)
		}
		if err != nil {
			return nil, fmt.Errorf("list the locks in redis: %w", err)
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	all := make([]lock.State, 0, len(found))
	for _, l := range found {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b lock.State) int {
		return cmp.Or(cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

// escaper makes text stand for itself in a pattern.
var escaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// lockReplies are what Redis says of one key.
type lockReplies struct {
	key   string
	value *redis.StringCmd
	left  *redis.DurationCmd
	fence *redis.StringCmd
}

// read adds the locks under keys to found, those that are still there, as of one
// moment.
func (o *Operator) read(ctx context.Context, keys []string, found map[string]lock.State) error {
	if len(keys) == 0 {
		return nil
	}
	var now *redis.TimeCmd
	replies := make([]lockReplies, len(keys))
	_, err := o.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		now = p.Time(ctx)
		for i, key := range keys {
			replies[i] = lockReplies{key, p.Get(ctx, key), p.PTTL(ctx, key), p.Get(ctx, fencePrefix+strings.TrimPrefix(key, lockPrefix))}
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for _, r := range replies {
		value, err := r.value.Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.key, err)
		}
		s := o.state(r.key, value)
		if left := r.left.Val(); left >= 0 { // else it never ends
			s.Left, s.Until = left, now.Val().Add(left).UTC()
		}
		s.Fence, _ = r.fence.Int64() // 0 if only nodes of ShedLock have had it
		found[r.key] = s
	}
	return nil
}

// state is what key and value of a lock say.
func (o *Operator) state(key, owner string) lock.State {
	s := lock.State{Store: lock.StoreRedis, Key: key, Owner: owner, Held: true}
	rest := strings.TrimPrefix(key, lockPrefix)
	if name, ok := strings.CutPrefix(rest, o.cfg.Environment+":"); ok && o.cfg.Environment != "" {
		s.Environment, s.Name = o.cfg.Environment, name
	} else {
		s.Environment, s.Name, _ = strings.Cut(rest, ":")
	}
	if at, _, ok := strings.Cut(strings.TrimPrefix(owner, valuePrefix), "@"); ok {
		s.Since, _ = time.Parse(time.RFC3339, at)
	}
	return s
}

// Held returns the lock name of the configured environment, or lock.ErrNoSuchLock.
func (o *Operator) Held(ctx context.Context, name string) (lock.State, error) {
	key := lockPrefix + cmp.Or(o.cfg.Environment, defaultEnvironment) + ":" + name
	found := map[string]lock.State{}
	if err := o.read(ctx, []string{key}, found); err != nil {
		return lock.State{}, fmt.Errorf("read the lock %s in redis: %w", name, err)
	}
	l, ok := found[key]
	if !ok {
		return l, lock.ErrNoSuchLock
	}
	return l, nil
}

// Unlock takes the lock away from its holder and frees it, as
// lock.Operator does. With a DB it is written into job_audit first; if Redis then
// does not answer, the holder may still have the lock, but its guarded writes are
// refused. A lock that has passed to another holder meanwhile is left to that one,
// with lock.ErrNoSuchLock. It returns the lock as it was.
func (o *Operator) Unlock(ctx context.Context, name, actor, note string) (before lock.State, err error) {
	if before, err = o.Held(ctx, name); err != nil {
		return before, fmt.Errorf("unlock %s: %w", name, err)
	}
	if o.cfg.DB != nil {
		if err := o.record(ctx, before, actor, note); err != nil {
			return before, fmt.Errorf("unlock %s: record it: %w", name, err)
		}
	}
	freed, err := unlockScript.Run(ctx, o.client, []string{before.Key}, before.Owner).Int()
	if err == nil && freed == 0 {
		err = lock.ErrNoSuchLock
	}
	if err != nil {
		return before, fmt.Errorf("unlock %s: %w", name, err)
	}
	return before, nil
}

// record writes the unlock into job_audit, and refuses the holder's fence from now
// on.
func (o *Operator) record(ctx context.Context, held lock.State, actor, note string) error {
	return jobdb.TakeAway(ctx, o.cfg.DB, func(tx *sql.Tx) error {
		if held.Fence > 0 && (lock.Lock{Name: held.Name, AtMostFor: time.Second}).Validate() == nil {
			if err := jobdb.Refuse(ctx, tx, held.Name, jobdb.UnlockedBy(actor), held.Fence); err != nil {
				return err
			}
		}
		return jobdb.Audit(ctx, tx, jobdb.Entry{
			Actor: actor, Action: "unlock", Name: held.Name, Note: note,
			Detail: fmt.Sprintf("held by %s in redis under %s, fence %d", held.Owner, held.Key, held.Fence),
		})
	})
}
