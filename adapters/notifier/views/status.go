package views

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// putIfNewer is the part that putStatus and fillStatus share: it stores text
// unless an entry of the same or a later version is there. ttl is its time to live
// in milliseconds. When that is over already, the event is older than any entry
// may get: it still replaces an older entry, within what that has left to live,
// but never makes one where none is. An entry that does not begin with a version
// is rubbish and gives way.
const putIfNewer = `
local function put(key, text, ttl)
  local have = redis.call('GETRANGE', key, 0, 19)
  if #have == 20 and not string.find(have, '%D') and have <= '09223372036854775807'
      and have >= string.sub(text, 1, 20) then
    return 0
  end
  if tonumber(ttl) > 0 then
    redis.call('SET', key, text, 'PX', ttl)
    return 1
  end
  if have == '' then
    return 0
  end
  redis.call('SET', key, text, 'KEEPTTL')
  return 1
end
`

var (
	// KEYS: leases, then entries. ARGV: text and ttl of each.
	putStatus = redis.NewScript(putIfNewer + `
local n, stored = #ARGV / 2, 0
redis.call('DEL', unpack(KEYS, 1, n))
for i = 1, n do
  stored = stored + put(KEYS[n+i], ARGV[2*i-1], ARGV[2*i])
end
return stored
`)
	// KEYS: lease, then the entry in each generation to fill. ARGV: ticket, text, ttl.
	// Without a good ticket what is there gives way if it is older, and else nothing
	// is stored.
	fillStatus = redis.NewScript(putIfNewer + redeem + `
local ttl = 0
if redeem(KEYS[1], ARGV[1], string.sub(ARGV[2], 1, 20)) then
  ttl = ARGV[3]
end
for i = 2, #KEYS do
  put(KEYS[i], ARGV[2], ttl)
end
return 1
`)
)

// Key is where Redis has the status of a notification, in the generation that
// answers: for those who look by hand.
func (v *Views) Key(ctx context.Context, id notification.ID) (string, error) {
	kept, err := v.tracker.Of(ctx, Status)
	if err != nil {
		return "", err
	}
	return v.statusKeys(kept.Live, id)[0], nil
}

// statusKeys are the keys of an entry and of its lease, which hash to one slot.
func (v *Views) statusKeys(generation string, id notification.ID) []string {
	key := v.tracker.KeyPrefix(Status, generation) + "{" + string(id) + "}"
	return []string{key, key + ":lease"}
}

// writeStatus writes many entries with one call of the script, of which a call of
// its own for each would take most of the time. In a cluster they are in different
// slots, so there it is one for each.
func (v *Views) writeStatus(b *batch, generation string, newest []app.NotificationStatus, counts bool) {
	for chunk := range slices.Chunk(newest, v.perCall) {
		entries := make([]entry, len(chunk))
		for i, s := range chunk {
			entries[i] = entry{version: s.Version, state: stateOK, expiry: s.ChangedAt.Add(v.ttl(s.ID)), status: s}
		}
		v.putEntries(b, generation, entries, counts)
	}
}

func (v *Views) putEntries(b *batch, generation string, entries []entry, counts bool) {
	n := len(entries)
	keys, args := make([]string, 2*n), make([]any, 0, 2*n)
	for i, e := range entries {
		own := v.statusKeys(generation, e.status.ID)
		keys[i], keys[n+i] = own[1], own[0]
		args = append(args, e.String(), v.milliseconds(e.expiry))
	}
	b.add(putStatus, counts, keys, args...)
}

// NotificationStatus implements app.Views. An entry that cannot be read counts
// as a miss, and anything newer than version zero replaces it.
func (v *Views) NotificationStatus(ctx context.Context, id notification.ID) (app.NotificationStatus, error) {
	kept, err := v.tracker.Of(ctx, Status)
	if err != nil {
		return app.NotificationStatus{}, fmt.Errorf("view of notification %s: %w", id, err)
	}
	keys := v.statusKeys(kept.Live, id)
	raw, err := v.rdb.Get(ctx, keys[0]).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return app.NotificationStatus{}, fmt.Errorf("view of notification %s: %w", id, err)
	}
	e, err := parseEntry(raw)
	if err != nil || !v.cfg.Now().Before(e.expiry) {
		return app.NotificationStatus{}, v.miss(ctx, keys[1])
	}
	if e.state != stateOK {
		return app.NotificationStatus{}, domain.ErrNotFound
	}
	return e.status, nil
}

// FillNotificationStatus implements app.Views.
func (v *Views) FillNotificationStatus(ctx context.Context, ticket string, s app.NotificationStatus) error {
	kept, err := v.tracker.Of(ctx, Status)
	if err == nil {
		e := entry{version: s.Version, state: stateOK, expiry: v.cfg.Now().Add(v.ttl(s.ID)), status: s}
		keys := v.statusKeys(kept.Live, s.ID)[1:]
		for _, generation := range kept.Filled() {
			keys = append(keys, v.statusKeys(generation, s.ID)[0])
		}
		err = v.one(ctx, fillStatus, keys, ticket, e.String(), v.milliseconds(e.expiry))
	}
	if err != nil {
		return fmt.Errorf("fill view of notification %s: %w", s.ID, err)
	}
	return nil
}

// Bury replaces the entry of a notification that is gone by a tombstone. version
// is that of the act that removed it; events before it cannot bring it back.
func (v *Views) Bury(ctx context.Context, id notification.ID, version int64) error {
	e := entry{version: version, state: stateNone, expiry: v.cfg.Now().Add(v.cfg.TombstoneTTL), status: app.NotificationStatus{ID: id}}
	err := v.tracker.Write(ctx, func(ctx context.Context, all map[string]cache.Generations) error {
		var b batch
		for _, generation := range all[Status].Written() {
			v.putEntries(&b, generation, []entry{e}, false)
		}
		return b.run(ctx, v.rdb)
	})
	if err != nil {
		return fmt.Errorf("bury view of notification %s: %w", id, err)
	}
	return nil
}

// ttl spreads the expiry of different ids, but is the same for all events of one:
// when the entry of one version ends by its age, every earlier event is past its
// own and is refused, so it cannot come back as if it were news.
func (v *Views) ttl(id notification.ID) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return v.cfg.TTL + v.cfg.TTL/10*time.Duration(h.Sum32()%1000)/1000
}
