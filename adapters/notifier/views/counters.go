package views

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/notification"
)

// The counters of a day are spread over counterShards hashes, by notification. A
// hash has what the newest status of each of its notifications adds
// ("n:<id>" = version and five numbers), and the sums ("<channel>:<what>"). Both go
// together when the day is closed, and an event that comes later than that changes
// nothing: so no event is ever counted twice, however late it comes again.
const counterShards = 16

// What is counted, in the order of the five numbers.
var counted = []string{"requested", "sent", "failed", "abandoned", "read"}

// KEYS: hash. ARGV: ttl, then for each notification id, version, channel and the
// five numbers.
var countDeliveries = redis.NewScript(cache.VersionLua + `
local names = {'requested', 'sent', 'failed', 'abandoned', 'read'}
local sums = {}
for i = 2, #ARGV, 8 do
  local field = 'n:' .. ARGV[i]
  local have = redis.call('HGET', KEYS[1], field)
  if newer(ARGV[i+1], have) then
    local before = {0, 0, 0, 0, 0}
    if have then
      local n = 0
      for number in string.gmatch(string.sub(have, 21), '%d+') do
        n = n + 1
        before[n] = tonumber(number)
      end
    end
    local line = ARGV[i+1]
    for n = 1, 5 do
      local now = ARGV[i+2+n]
      line = line .. ' ' .. now
      if tonumber(now) ~= before[n] then
        local sum = ARGV[i+2] .. ':' .. names[n]
        sums[sum] = (sums[sum] or 0) + tonumber(now) - before[n]
      end
    end
    redis.call('HSET', KEYS[1], field, line)
  end
end
for field, delta in pairs(sums) do
  redis.call('HINCRBY', KEYS[1], field, delta)
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
`)

func (v *Views) counterKey(generation string, day time.Time, shard uint32) string {
	return v.tracker.KeyPrefix(Counters, generation) + day.Format(time.DateOnly) + ":" + strconv.FormatUint(uint64(shard), 10)
}

func (v *Views) writeCounters(b *batch, g cache.Generations, newest []app.NotificationStatus) {
	for _, generation := range g.Written() {
		v.writeCountersOf(b, generation, newest)
	}
}

func (v *Views) writeCountersOf(b *batch, generation string, newest []app.NotificationStatus) {
	at := map[string]int{}
	for _, s := range newest {
		day := s.RequestedAt.UTC().Truncate(24 * time.Hour)
		left := v.milliseconds(day.AddDate(0, 0, 1+v.cfg.CounterDays))
		if left == 0 {
			continue // closed
		}
		key := v.counterKey(generation, day, shardOf(s.ID))
		i, seen := at[key]
		if !seen {
			i = len(b.calls)
			at[key] = i
			b.add(countDeliveries, []string{key}, left)
		}
		c := app.CountOf(s)
		b.calls[i].args = append(b.calls[i].args, string(s.ID), fmt.Sprintf("%020d", s.Version), string(s.Channel),
			c.Requested, c.Sent, c.Failed, c.Abandoned, c.Read)
	}
}

func shardOf(id notification.ID) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32() % counterShards
}

// DeliveryCounters implements app.Views.
func (v *Views) DeliveryCounters(ctx context.Context, day time.Time) (app.DeliveryCounters, error) {
	var sums []int64
	err := v.tracker.Read(ctx, Counters, func(ctx context.Context, g cache.Generations) (err error) {
		sums, err = v.sums(ctx, g.Live, day.UTC())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("counters of a day: %w", err)
	}
	return countersOf(sums), nil
}

// channels, in the order of the sums.
var channels = []notification.Channel{notification.Email, notification.SMS, notification.Push}

// sums adds up the shards of a day in one generation: what is counted, for each
// channel.
func (v *Views) sums(ctx context.Context, generation string, day time.Time) ([]int64, error) {
	var fields []string
	for _, c := range channels {
		for _, what := range counted {
			fields = append(fields, string(c)+":"+what)
		}
	}
	shards := make([]*redis.SliceCmd, counterShards)
	_, err := v.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for shard := range shards {
			shards[shard] = p.HMGet(ctx, v.counterKey(generation, day, uint32(shard)), fields...) //nolint:gosec // below counterShards
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	sums := make([]int64, len(fields))
	for _, shard := range shards {
		for i, value := range shard.Val() {
			text, _ := value.(string) // absent: nothing of this kind
			n, _ := strconv.ParseInt(text, 10, 64)
			sums[i] += n
		}
	}
	return sums, nil
}

func countersOf(sums []int64) app.DeliveryCounters {
	out := app.DeliveryCounters{}
	for i, c := range channels {
		five := sums[i*len(counted):]
		if n := (app.DeliveryCount{Requested: five[0], Sent: five[1], Failed: five[2], Abandoned: five[3], Read: five[4]}); n != (app.DeliveryCount{}) {
			out[c] = n
		}
	}
	return out
}
