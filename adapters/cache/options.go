package cache

import (
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// The longest waits that CheckOptions lets pass.
const maxWait = time.Second

// Options are those of a go-redis client that a request may wait for: a context's
// deadline counts, each step has a short limit, and nothing is tried twice. Set
// Addr, DB, credentials and TLS as you need. Of a URL: cache.Harden(opt).
func Options(addr string) *redis.Options { return Harden(&redis.Options{Addr: addr}) }

// Harden sets in o the limits that a cache needs and returns it. go-redis's own
// are up to 5 s for each of several tries, and it ignores deadlines.
func Harden(o *redis.Options) *redis.Options {
	o.ContextTimeoutEnabled = true
	o.DialTimeout = 200 * time.Millisecond
	o.ReadTimeout = 100 * time.Millisecond
	o.WriteTimeout = 100 * time.Millisecond
	o.PoolTimeout = 100 * time.Millisecond
	o.MaxRetries = -1
	o.DialerRetries = 1
	return o
}

// CheckOptions names everything in a client's Options() that would let a request
// hang on Redis.
func CheckOptions(o *redis.Options) error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(o.ContextTimeoutEnabled, "ContextTimeoutEnabled: must be true, or deadlines of callers are ignored")
	for _, w := range []struct {
		field string
		value time.Duration
	}{{"DialTimeout", o.DialTimeout}, {"ReadTimeout", o.ReadTimeout}, {"WriteTimeout", o.WriteTimeout}, {"PoolTimeout", o.PoolTimeout}} {
		need(w.value > 0 && w.value <= maxWait, "%s: is %s, must be more than 0 and at most %s", w.field, w.value, maxWait)
	}
	need(o.MaxRetries <= 0, "MaxRetries: is %d, must be -1: the database answers instead", o.MaxRetries)
	need(o.DialerRetries == 1, "DialerRetries: is %d, must be 1", o.DialerRetries)
	return errors.Join(errs...)
}
