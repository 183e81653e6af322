package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Stored is what Redis has under a key, for operators: it knows no types.
type Stored struct {
	// Version, State and Expires are those of the entry.
	Version int64
	State   State
	Expires time.Time
	// Took is how long its load took; 0 if it was put.
	Took time.Duration
	// Payload is the encoded value.
	Payload []byte
	// Left is how long Redis will keep it; negative is forever.
	Left time.Duration
	// Filling is how long the lease of a process that loads it holds; 0 if none does.
	Filling time.Duration
}

// ParseStored reads the stored form of an entry, of which Payload is a part then.
func ParseStored(text []byte) (Stored, error) {
	r, err := parse(text)
	return Stored{
		Version: r.version, State: r.state, Expires: time.UnixMilli(r.expiry),
		Took: time.Duration(r.delta) * time.Millisecond, Payload: r.payload,
	}, err
}

// Append appends the stored form of the entry, for structures that hold entries,
// such as a hash. VersionLua compares them.
func (s Stored) Append(b []byte) []byte {
	return raw{version: s.Version, state: s.State, expiry: s.Expires.UnixMilli(), delta: s.Took.Milliseconds(), payload: s.Payload}.append(b)
}

// Inspect reads the entry of key. It is ErrMiss if there is none.
func Inspect(ctx context.Context, rdb redis.Cmdable, key string) (Stored, error) {
	var text *redis.StringCmd
	var left, lease *redis.DurationCmd
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		text, left, lease = p.Get(ctx, key), p.PTTL(ctx, key), p.PTTL(ctx, leaseOf(key))
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return Stored{}, fmt.Errorf("inspect %s: %w", key, err)
	}
	b, err := text.Bytes()
	if err != nil {
		return Stored{Left: left.Val(), Filling: max(lease.Val(), 0)}, fmt.Errorf("inspect %s: %w", key, ErrMiss)
	}
	s, err := ParseStored(b)
	s.Left, s.Filling = left.Val(), max(lease.Val(), 0)
	if err != nil {
		return s, fmt.Errorf("inspect %s: %w", key, err)
	}
	return s, nil
}

// Invalidate makes the entry of key count for nothing, as Versioned.Invalidate
// does, and reports whether there was one.
func Invalidate(ctx context.Context, rdb redis.Cmdable, key string) (bool, error) {
	n, err := expireScript.Run(ctx, scripter{rdb}, []string{key, leaseOf(key)}).Int()
	if err != nil {
		return false, fmt.Errorf("invalidate %s: %w", key, err)
	}
	return n > 0, nil
}

// Forget removes the entry of key together with its version, and reports whether
// there was one. An old event that is delivered after it can make an old entry
// again: only for a database that was set back to an earlier state, whose
// versions are lower than those in Redis.
func Forget(ctx context.Context, rdb redis.Cmdable, key string) (bool, error) {
	n, err := forgetScript.Run(ctx, scripter{rdb}, []string{key, leaseOf(key)}).Int()
	if err != nil {
		return false, fmt.Errorf("forget %s: %w", key, err)
	}
	return n > 0, nil
}

// InvalidateQuery begins a new generation of the Query of that name, as
// Query.Invalidate does, and returns it.
func InvalidateQuery(ctx context.Context, rdb redis.Cmdable, name string, schemaVersion int) (generation string, err error) {
	generation, err = renewScript.Run(ctx, scripter{rdb}, []string{queryPrefix(name, schemaVersion) + "gen"}, threeDigits()).Text()
	if err != nil {
		return "", fmt.Errorf("invalidate query %s: %w", name, err)
	}
	return generation, nil
}

// scripter makes a redis.Scripter of a redis.Cmdable, which has its methods.
type scripter struct{ redis.Cmdable }

func queryPrefix(name string, schemaVersion int) string {
	return "q:" + Key(name) + ":" + strconv.Itoa(schemaVersion) + ":"
}
