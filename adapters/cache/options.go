package cache

import (
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// maxWait is the longest limit of a client that a store takes.
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

// checkOptions names everything in a client's options that would let a request hang
// on Redis.
func checkOptions(o *redis.Options) error {
	var wrong problems.List
	wrong.Unless(o.ContextTimeoutEnabled, "ContextTimeoutEnabled", "must be true, or deadlines of callers are ignored, is false")
	for _, w := range []struct {
		field string
		value time.Duration
	}{{"DialTimeout", o.DialTimeout}, {"ReadTimeout", o.ReadTimeout}, {"WriteTimeout", o.WriteTimeout}, {"PoolTimeout", o.PoolTimeout}} {
		wrong.Unless(w.value > 0 && w.value <= maxWait, w.field, "must be more than 0 and at most %s, is %s", maxWait, w.value)
	}
	wrong.Unless(o.MaxRetries <= 0, "MaxRetries", "must be -1, since the database answers instead, is %d", o.MaxRetries)
	wrong.Unless(o.DialerRetries == 1, "DialerRetries", "must be 1, is %d", o.DialerRetries)
	return wrong.Err()
}
