package views

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// KEYS: hash. It says that the list has all of its window, if it is there.
var markComplete = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'complete', '1')
end
return 1
`)

// wholeLists reports that the lists of recipients lack nothing: the fold began
// with the first event there ever was, and none was evicted or has expired since
// they were begun. Otherwise readers fill them from the database.
func (r *rebuild) wholeLists(now circumstances) bool {
	return r.p.name == Recipients && r.res.From == 1 && r.cfg.Floor <= 1 &&
		now.evicted == r.at.evicted && time.Duration(now.time-r.at.time)*time.Millisecond < r.p.v.cfg.TTL
}

// markLists says of each list that it is complete.
func (r *rebuild) markLists(ctx context.Context) error {
	pattern := escape(r.p.v.cfg.Prefix+r.p.name+":"+r.res.Generation+":") + "*"
	for cursor := uint64(0); ; {
		keys, next, err := r.p.v.rdb.Scan(ctx, cursor, pattern, 500).Result()
		if err != nil {
			return err
		}
		var b batch
		for _, key := range keys {
			if strings.HasSuffix(key, "}") {
				b.add(markComplete, false, []string{key})
			}
		}
		if len(b.calls) > 0 {
			if err := b.run(ctx, r.p.v.rdb); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
