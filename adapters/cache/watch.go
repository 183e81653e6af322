package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Run watches Redis until ctx ends: it checks how Redis evicts, notices
// when it has lost its data, and keeps the near layers fresh. Without it the
// caches work, but no flush is noticed and near layers are not used. What
// it cannot ask Redis it tells the hook Trouble, once for each cause until it
// works again. It returns nil.
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

// watchEpoch looks after Redis, again and again.
func (s *Store) watchEpoch(ctx context.Context) {
	w := watch{Store: s}
	for ctx.Err() == nil {
		w.look(ctx)
		_ = wait(ctx, s.cfg.WatchInterval)
	}
}

// watch is what Run remembers of its looks at Redis.
type watch struct {
	*Store
	epoch                 string // that it saw last
	checked               bool   // how Redis evicts is known
	epochTrouble, checkup reportedCauses
}

// look asks for the epoch, and until Redis has said so once, how it evicts.
// The epoch key has no time to live: if it is gone or another, so may be
// everything else, and Redis may be set up in another way.
func (w *watch) look(ctx context.Context) {
	answer, err := w.run(ctx, epochScript, []string{w.cfg.EpochKey}, rand.Text())
	epoch, ok := answer.(string)
	switch {
	case err != nil:
		err = fmt.Errorf("cache store: look after the epoch key: %w", err)
	case ok && epoch != w.epoch:
		if w.epoch != "" {
			w.flushes.Add(1)
			w.cfg.Hooks.Flushed()
		}
		w.epoch, w.checked = epoch, false
	}
	w.epochTrouble.report(ctx, &w.cfg.Hooks, err)
	if w.checked || err != nil && !isReply(err) {
		return
	}
	warnings, err := w.Check(ctx)
	for _, text := range warnings {
		w.cfg.Hooks.Warning(text)
	}
	w.checked = err == nil
	w.checkup.report(ctx, &w.cfg.Hooks, err)
}

// reportedCauses are the causes that were reported of something that is tried again
// and again, so that each is reported once until it works.
type reportedCauses struct{ seen map[string]bool }

// report calls the hook Trouble with err if its cause is new. An open breaker is not:
// what opened it was reported.
func (g *reportedCauses) report(ctx context.Context, hooks *Hooks, err error) {
	cause := "no answer" // the texts of such errors have ports in them
	switch {
	case ctx.Err() != nil, errors.Is(err, errBreakerOpen):
		return
	case err == nil:
		clear(g.seen)
		return
	case isReply(err), errors.Is(err, errNoLimit):
		cause = err.Error()
	}
	if g.seen == nil {
		g.seen = map[string]bool{}
	}
	if !g.seen[cause] {
		g.seen[cause] = true
		hooks.Trouble("", err)
	}
}

// isReply reports whether Redis itself said err.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// Check asks Redis how it makes room and returns what is wrong with that for a
// cache, each with what to do; nothing if all is well. Run does so at its start
// and whenever Redis has lost its data, each time until Redis has answered, and
// tells the hook Warning: the caches work in any case.
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
		return nil, fmt.Errorf("cache store: check: %w", unavailable(errNoLimit))
	}
	return policyWarnings(limit, info["maxmemory_policy"]), nil
}

var errNoLimit = errors.New("it does not tell its maxmemory")

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
