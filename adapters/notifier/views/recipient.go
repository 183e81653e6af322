package views

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
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
const mergeEntries = cache.VersionLua + `
local function merge(hash, order, ttl, window, first)
  for i = first, #ARGV, 3 do
    if newer(ARGV[i+2], redis.call('HGET', hash, ARGV[i])) then
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
	// KEYS: hash, order, ticket. ARGV: ttl, window, entries.
	putRecipient = redis.NewScript(mergeEntries + `
redis.call('DEL', KEYS[3])
merge(KEYS[1], KEYS[2], ARGV[1], ARGV[2], 3)
return 1
`)
	// KEYS: ticket, then hash and order in each generation to fill. ARGV: the reader's
	// ticket, ttl, window, mark, entries. Without a good ticket entries are merged into
	// what is there, and else nothing is stored.
	//
	// mark stands for what the reader read. A reader without the ticket leaves its own
	// mark on the ticket, "ticket:mark", and answers with what it read: a fill that read
	// something else may be older than that, and would take this reader back at its
	// next read. Then nobody fills.
	fillRecipient = redis.NewScript(mergeEntries + `
local function redeem(key, ticket, mark)
  local have = redis.call('GET', key)
  if not have then
    return false
  end
  local holder, seen = string.match(have, '^([^:]*):?(.*)$')
  if seen ~= '' and seen ~= mark then
    redis.call('DEL', key)
    return false
  end
  if holder == ticket then
    redis.call('DEL', key)
    return true
  end
  redis.call('SET', key, holder .. ':' .. mark, 'KEEPTTL')
  return false
end
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

// recipientKeys are the keys of a list, its order and its ticket, which hash to one
// slot. The name of the recipient may be anything and long, so its hash stands
// for it.
func (v *Views) recipientKeys(generation, recipient string) []string {
	sum := sha256.Sum256([]byte(recipient))
	key := v.tracker.KeyPrefix(Recipients, generation) + "{" + hex.EncodeToString(sum[:16]) + "}"
	return []string{key, key + ":order", key + ":lease"}
}

func (v *Views) writeLists(b *batch, g cache.Generations, newest []app.NotificationStatus) {
	for _, generation := range g.Written() {
		v.writeListsOf(b, generation, newest)
	}
}

func (v *Views) writeListsOf(b *batch, generation string, newest []app.NotificationStatus) {
	at := map[string]int{}
	for _, s := range newest {
		i, seen := at[s.Recipient]
		if !seen {
			i = len(b.calls)
			at[s.Recipient] = i
			b.add(putRecipient, v.recipientKeys(generation, s.Recipient), v.cfg.TTL.Milliseconds(), app.RecipientWindow)
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

// listed is the three arguments that stand for one notification. The stored form is
// that of the cache library's entries.
func listed(s app.NotificationStatus) []any {
	payload, _ := encodeStatus(s) // strings, numbers and times always have a JSON form
	e := cache.Stored{Version: s.Version, State: cache.Live, Expires: s.ChangedAt, Payload: payload}
	return []any{string(s.ID), s.RequestedAt.UnixMicro(), e.Append(nil)}
}

func parseListed(text string) (app.NotificationStatus, error) {
	e, err := cache.ParseStored([]byte(text))
	if err != nil {
		return app.NotificationStatus{}, err
	}
	s, err := decodeStatus(e.Payload)
	s.Version = e.Version
	return s, err
}

// miss draws the ticket to fill the list whose ticket is at key. Every event that
// is written to the list takes the ticket away: what a reader has from the database
// may then be older, and the entry of that event may have been evicted. If Redis
// cannot be asked now, there is no ticket.
func (v *Views) miss(ctx context.Context, key string) error {
	ticket := rand.Text()
	ok, err := v.rdb.SetNX(ctx, key, ticket, v.cfg.LoadTimeout).Result()
	if err != nil || !ok {
		ticket = ""
	}
	return &app.ViewMissError{Ticket: ticket}
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
		s, err := parseListed(raw)
		if err != nil {
			return nil, v.miss(ctx, keys[2])
		}
		list = append(list, s)
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
