package views

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// putIfNewer stores ARGV[1] unless an entry of the same or a later version is
// there. ARGV[2] is its time to live in milliseconds. When that is over already,
// the event is older than any entry may get: it still replaces an older entry,
// within what that has left to live, but never makes one where none is.
// An entry that does not begin with a version is rubbish and gives way.
var putIfNewer = redis.NewScript(`
local have = redis.call('GETRANGE', KEYS[1], 0, 19)
if #have == 20 and not string.find(have, '%D') and have <= '09223372036854775807'
    and have >= string.sub(ARGV[1], 1, 20) then
  return 0
end
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
if have == '' then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
return 1
`)

type put struct {
	key   string
	entry entry
}

// putAll offers all entries in one pipeline and returns how many were stored.
// The script's text is sent only when Redis does not know it (yet, or any more).
func (v *Views) putAll(ctx context.Context, puts []put) (stored int, err error) {
	if len(puts) == 0 {
		return 0, nil
	}
	cmds, err := v.pipeline(ctx, puts)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		if err := putIfNewer.Load(ctx, v.rdb).Err(); err != nil {
			return 0, fmt.Errorf("load script: %w", err)
		}
		cmds, err = v.pipeline(ctx, puts)
	}
	for _, c := range cmds {
		if n, err := c.Int(); err == nil {
			stored += n
		}
	}
	return stored, err
}

func (v *Views) pipeline(ctx context.Context, puts []put) ([]*redis.Cmd, error) {
	cmds := make([]*redis.Cmd, 0, len(puts))
	now := v.cfg.Now()
	var errs []error
	_, err := v.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, put := range puts {
			text, err := put.entry.String()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", put.key, err))
				continue
			}
			left := put.entry.expiry.Sub(now).Milliseconds()
			cmds = append(cmds, putIfNewer.EvalSha(ctx, p, []string{put.key}, text, max(left, 0)))
		}
		return nil
	})
	if err != nil {
		return cmds, err
	}
	return cmds, errors.Join(errs...)
}
