package cache

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Run looks after Redis until ctx ends: it checks how Redis makes room, notices
// when it has lost its data, and keeps the near layers fresh. Without it the caches work, but nobody is told
// of a flush and near layers are not used. It returns nil.
func (s *Store) Run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { s.watchEpoch(ctx) })
	both.Go(func() { s.keepLink(ctx) })
	both.Wait()
	return nil
}

// epochScript returns the epoch in KEYS[1], or ARGV[1], which is it from now on.
var epochScript = redis.NewScript(`
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[1], epoch)
end
return epoch
`)

// watchEpoch looks after the epoch key. It has no time to live: if it is gone or
// another, so may be everything else.
func (s *Store) watchEpoch(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		answer, err := s.run(ctx, epochScript, []string{s.cfg.EpochKey}, rand.Text())
		if epoch, ok := answer.(string); ok && err == nil && epoch != last {
			if last != "" {
				s.flushes.Add(1)
				s.cfg.Hooks.flushed()
			}
			last = epoch
			s.warn(ctx)
		}
		_ = wait(ctx, s.cfg.WatchInterval)
	}
}

// warn tells the hook what Check finds.
func (s *Store) warn(ctx context.Context) {
	warnings, err := s.Check(ctx)
	s.cfg.Hooks.trouble("", err)
	for _, w := range warnings {
		s.cfg.Hooks.warning(w)
	}
}

// Check asks Redis how it makes room and returns what is wrong with that for a
// cache, each with what to do; nothing if all is well. Run does so at its start
// and whenever Redis has lost its data, and tells the hook Warning: the caches
// work in any case.
func (s *Store) Check(ctx context.Context) (warnings []string, err error) {
	text, err := s.rdb.Info(ctx, "memory").Result()
	if err != nil {
		return nil, fmt.Errorf("cache store: check: %w", unavailable(err))
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[name] = value
	}
	limit, err := strconv.ParseInt(info["maxmemory"], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("cache store: check: %w: it does not tell its maxmemory", ErrUnavailable)
	}
	return policyWarnings(limit, info["maxmemory_policy"]), nil
}

func policyWarnings(limit int64, policy string) []string {
	switch {
	case limit == 0:
		return []string{"redis: maxmemory is 0: it grows until the machine has no memory left; set maxmemory, and maxmemory-policy allkeys-lru"}
	case policy == "noeviction":
		return []string{"redis: maxmemory-policy is noeviction: once full it takes no new entries, and each miss goes to the database; set allkeys-lru"}
	case strings.HasPrefix(policy, "volatile-"):
		return []string{"redis: maxmemory-policy is " + policy + ": it evicts exactly what has a time to live, tombstones and locks of other programs too; set allkeys-lru, and keep locks elsewhere"}
	case policy == "allkeys-random":
		return []string{"redis: maxmemory-policy is allkeys-random: it evicts what is in use as readily as what is not; set allkeys-lru"}
	}
	return nil
}
