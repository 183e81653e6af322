package views

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/app"
)

// The list of a recipient is a hash of entries by notification, and a sorted set
// of the notifications by the time of their request, which tells which are the
// newest. The field "complete" says that the hash has all of the window; without
// it, it has what events have brought since the list was last evicted.
const completeField = "complete"

// mergeEntries is the part that putRecipient and fillRecipient share: entries, each
// of id, time and text, are stored over older versions, and what falls out of the
// window is dropped, some at a time. The sorted set outlives the hash, so that it
// never lacks a notification that the hash has.
const mergeEntries = `
local function older(have, text)
  return not have or not string.find(have, '^%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d') or string.sub(have, 1, 20) < string.sub(text, 1, 20)
end
local function merge(hash, order, ttl, window, first)
  for i = first, #ARGV, 3 do
    if older(redis.call('HGET', hash, ARGV[i]), ARGV[i+2]) then
      redis.call('HSET', hash, ARGV[i], ARGV[i+2])
      redis.call('ZADD', order, ARGV[i+1], ARGV[i])
    end
  end
  local over = redis.call('ZCARD', order) - tonumber(window)
  if over >= 20 then
    local oldest = redis.call('ZRANGE', order, 0, over - 1)
    redis.call('HDEL', hash, unpack(oldest))
    redis.call('ZREM', order, unpack(oldest))
  end
  redis.call('PEXPIRE', hash, ttl)
  redis.call('PEXPIRE', order, ttl + 60000)
end
`

var (
	// KEYS: hash, order, lease. ARGV: ttl, window, entries.
	putRecipient = redis.NewScript(mergeEntries + `
redis.call('DEL', KEYS[3])
merge(KEYS[1], KEYS[2], ARGV[1], ARGV[2], 3)
return 1
`)
	// KEYS: lease, then hash and order in each generation to fill. ARGV: ticket, ttl,
	// window, mark, entries. Without a good ticket entries are merged into what is
	// there, and else nothing is stored.
	fillRecipient = redis.NewScript(mergeEntries + redeem + `
local good = redeem(KEYS[1], ARGV[1], ARGV[4])
for i = 2, #KEYS, 2 do
  if good then
    redis.call('HSET', KEYS[i], 'complete', '1')
  end
  if redis.call('EXISTS', KEYS[i]) == 1 then
    merge(KEYS[i], KEYS[i+1], ARGV[2], ARGV[3], 5)
  end
end
return 1
`)
)

// recipientKeys are the keys of a list, its order and its lease, which hash to one
// slot. The name of the recipient may be anything and long, so its hash stands
// for it.
func (v *Views) recipientKeys(generation, recipient string) []string {
	sum := sha256.Sum256([]byte(recipient))
	key := v.tracker.KeyPrefix(Recipients, generation) + "{" + hex.EncodeToString(sum[:16]) + "}"
	return []string{key, key + ":order", key + ":lease"}
}

func (v *Views) writeRecipients(b *batch, generation string, newest []app.NotificationStatus) {
	at := map[string]int{}
	for _, s := range newest {
		i, seen := at[s.Recipient]
		if !seen {
			i = len(b.calls)
			at[s.Recipient] = i
			b.add(putRecipient, false, v.recipientKeys(generation, s.Recipient), v.cfg.TTL.Milliseconds(), app.RecipientWindow)
		}
		b.calls[i].args = append(b.calls[i].args, listed(s)...)
	}
}

// mark is the same for lists of the same notifications in the same versions.
func mark(list []app.NotificationStatus) string {
	h := sha256.New()
	for _, s := range list {
		fmt.Fprintln(h, s.ID, s.Version)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// listed is the three arguments that stand for one notification.
func listed(s app.NotificationStatus) []any {
	return []any{string(s.ID), s.RequestedAt.UnixMicro(), entry{version: s.Version, state: stateOK, expiry: s.ChangedAt, status: s}.String()}
}

// RecipientNotifications implements app.Views.
func (v *Views) RecipientNotifications(ctx context.Context, recipient string) ([]app.NotificationStatus, error) {
	kept, err := v.tracker.Of(ctx, Recipients)
	if err != nil {
		return nil, fmt.Errorf("view of a recipient: %w", err)
	}
	keys := v.recipientKeys(kept.Live, recipient)
	fields, err := v.rdb.HGetAll(ctx, keys[0]).Result()
	if err != nil {
		return nil, fmt.Errorf("view of a recipient: %w", err)
	}
	if fields[completeField] == "" {
		return nil, v.miss(ctx, keys[2])
	}
	list := make([]app.NotificationStatus, 0, len(fields)-1)
	for id, raw := range fields {
		if id == completeField {
			continue
		}
		e, err := parseEntry(raw)
		if err != nil {
			return nil, v.miss(ctx, keys[2])
		}
		list = append(list, e.status)
	}
	slices.SortFunc(list, func(a, b app.NotificationStatus) int {
		return cmp.Or(b.RequestedAt.Compare(a.RequestedAt), cmp.Compare(b.ID, a.ID))
	})
	return list[:min(len(list), app.RecipientWindow)], nil
}

// FillRecipientNotifications implements app.Views.
func (v *Views) FillRecipientNotifications(ctx context.Context, recipient, ticket string, list []app.NotificationStatus) error {
	kept, err := v.tracker.Of(ctx, Recipients)
	if err == nil {
		keys := v.recipientKeys(kept.Live, recipient)[2:]
		for _, generation := range kept.Filled() {
			keys = append(keys, v.recipientKeys(generation, recipient)[:2]...)
		}
		args := []any{ticket, v.cfg.TTL.Milliseconds(), app.RecipientWindow, mark(list)}
		for _, s := range list {
			args = append(args, listed(s)...)
		}
		err = v.one(ctx, fillRecipient, keys, args...)
	}
	if err != nil {
		return fmt.Errorf("fill view of a recipient: %w", err)
	}
	return nil
}
