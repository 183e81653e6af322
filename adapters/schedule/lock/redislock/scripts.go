package redislock

import "github.com/redis/go-redis/v9"

// The scripts take: KEYS 1 the lock, 2 its fence, 3 the epoch; ARGV 1 the owner's
// value. Microseconds since 1970 fit into Lua's doubles until the year 2255; they
// are written with %.0f, as tostring would round them.

// acquireScript takes the lock and returns its fence, or 0 if somebody else has
// it, or the negative milliseconds for which no lock is granted. ARGV 2 lease, 3
// longest lease of any lock, 4 life of the fence, in milliseconds.
//
// The fence is written before the lock: a write that Redis refuses for want of
// memory then leaves no lock behind. The epoch is the time since when this Redis
// has known of all locks; without it they were lost, and those that were held may
// be held for as long as the longest lease.
var acquireScript = redis.NewScript(`
local have = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
if have[1] and have[1] ~= ARGV[1] then
  return 0
end
if have[1] and have[2] then
  return tonumber(have[2])
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local epoch = tonumber(have[3] or '')
if not epoch or epoch > now then
  redis.call('SET', KEYS[3], string.format('%.0f', now))
  return -ARGV[3]
end
local young = epoch + ARGV[3] * 1000 - now
if young > 0 then
  return -math.ceil(young / 1000)
end
local fence = math.max(tonumber(have[2] or 0) + 1, now)
redis.call('SET', KEYS[2], string.format('%.0f', fence), 'PX', ARGV[4])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return fence
`)

// renewScript makes the lock last ARGV 2 milliseconds from now, unless it does
// for longer. 0 means that it is somebody else's, or nobody's.
var renewScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
`)

// releaseScript frees the lock once ARGV 2 milliseconds since its acquisition are
// over; ARGV 3 is the fence, which is not before the time of the acquisition.
var releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local remaining = tonumber(ARGV[2])
if remaining > 0 then
  local time = redis.call('TIME')
  remaining = math.min(remaining, math.ceil(remaining - (time[1] * 1000000 + time[2] - ARGV[3]) / 1000))
end
if remaining > 0 then
  redis.call('PEXPIRE', KEYS[1], remaining)
else
  redis.call('DEL', KEYS[1])
end
return 1
`)

// unlockScript frees the lock KEYS 1 if its value is ARGV 1. 0 means that it has
// another one, or none.
var unlockScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
`)
