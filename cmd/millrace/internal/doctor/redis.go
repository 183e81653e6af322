package doctor

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis checks the server behind a redis:// URL.
func Redis(ctx context.Context, url string) []Check {
	r := &report{}
	opt, err := redis.ParseURL(url)
	if err != nil {
		r.add(Fail, "redis", "give --redis redis://host:6379/0", "is no Redis URL")
		return r.checks
	}
	opt.MaxRetries = -1
	c := redis.NewClient(opt)
	defer c.Close()
	start := time.Now()
	if err := c.Ping(ctx).Err(); err != nil {
		r.add(Fail, "redis", "start the server, or correct --redis", "at %s does not answer: %v", opt.Addr, err)
		return r.checks
	}
	r.ok("redis", "at %s answers in %s", opt.Addr, time.Since(start).Round(time.Microsecond))
	r.eviction(ctx, c)
	return r.checks
}

// eviction says of a policy what cache.Store.Check does: what Redis drops is
// filled again, but volatile policies pick exactly what has a time to live,
// tombstones and locks too, and allkeys-random what is in use.
func (r *report) eviction(ctx context.Context, c *redis.Client) {
	const name = "redis eviction policy"
	got, err := c.ConfigGet(ctx, "maxmemory-policy").Result()
	if err != nil || got["maxmemory-policy"] == "" {
		r.add(Skip, name, "check maxmemory-policy by hand", "the server does not tell")
		return
	}
	policy := got["maxmemory-policy"]
	r.when(strings.HasPrefix(policy, "volatile-") || policy == "allkeys-random",
		Warn, name, "CONFIG SET maxmemory-policy allkeys-lru, or noeviction if it keeps locks", "%s", policy)
}
