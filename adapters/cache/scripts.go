package cache

import "github.com/redis/go-redis/v9"

// VersionLua is the text of two functions in Lua for scripts that keep entries in
// structures of their own, hashes for instance. It is the only place that reads and
// compares versions.
//
//   - version_of(entry) returns the 20 digits with which an entry begins, or nil if
//     it is absent or does not begin with a version.
//   - newer(entry, have) reports whether entry may replace have: whether its version
//     is later, or have has none.
//
// Versions are compared as text of 20 digits: numbers in Lua are doubles, which
// confuse integers above 2^53.
const VersionLua = `
local function version_of(entry)
  local version = entry and string.sub(entry, 1, 20)
  if version and #version == 20 and not string.find(version, '%D') and version <= '09223372036854775807' then
    return version
  end
  return nil
end
local function newer(entry, have)
  local version = version_of(have)
  return not version or version < string.sub(entry, 1, 20)
end
`

// readLua is the text of read(key), which returns the header of an entry, ” if
// there is none, and its version, nil if it has none. It removes a key of another
// type.
const readLua = VersionLua + `
local function read(key)
  local have = redis.pcall('GETRANGE', key, 0, 41)
  if type(have) == 'table' then
    redis.call('DEL', key)
    return '', nil
  end
  return have, #have == 42 and version_of(have) or nil
end
`

// putScript offers entries. Each has two KEYS, its own and that of its lease, and
// two of ARGV from the second on, its text and its time to live in ms; no key
// comes twice. The answers, one for each, are 1 stored, 0 older, -1 absent, or an
// error's text.
//
// Storing a newer version deletes the entry's lease, since a process that loads may
// have read before this version existed. With ARGV[1] 0 an entry only replaces. What is
// absent is stored before anything else is written, so that a full Redis refuses
// it; then Redis lets the rest in, which replaces what would be out of date.
//
// An entry that is past its own end already replaces an older one for the time
// that has left, and makes none. That a load found nothing (state n and a delta)
// is newer than the version it carries, by how much nobody knows: with ARGV[1] 0
// it is not replaced but taken away, and who comes next loads.
var putScript = redis.NewScript(readLua + `
local out, leases, replace = {}, {}, {}
for i = 1, #KEYS, 2 do
  local n, text = (i + 1) / 2, ARGV[i + 1]
  local have, ok = read(KEYS[i])
  if ok and not newer(text, have) then
    out[n] = 0
  else
    leases[#leases + 1] = KEYS[i + 1]
    if have ~= '' then
      replace[#replace + 1] = {i, ok, ARGV[1] == '0' and ok and string.sub(have, 21, 21) == 'n' and string.sub(have, 35) ~= '00000000'}
    elseif ARGV[1] == '0' then
      out[n] = -1
    elseif tonumber(ARGV[i + 2]) <= 0 then
      out[n] = 0
    else
      out[n] = redis.pcall('SET', KEYS[i], text, 'PX', ARGV[i + 2]).err or 1
    end
  end
end
if #leases > 0 then
  redis.call('DEL', unpack(leases))
end
for _, r in ipairs(replace) do
  local i, ok, guess = r[1], r[2], r[3]
  local n, text, px = (i + 1) / 2, ARGV[i + 1], ARGV[i + 2]
  if guess then
    redis.call('DEL', KEYS[i])
    out[n] = -1
  elseif tonumber(px) > 0 then
    redis.call('SET', KEYS[i], text, 'PX', px)
    out[n] = 1
  elseif ok then
    redis.call('SET', KEYS[i], text, 'KEEPTTL')
    out[n] = 1
  else
    redis.call('DEL', KEYS[i])
    out[n] = 0
  end
end
return out
`)

// acquireScript answers a miss on KEYS[1] with the entry, if one is there by now
// that ends after ARGV[3] (ms, 13 digits) and has at least version ARGV[4]; else
// with 1 if the lease KEYS[2] is the caller's now, for ARGV[2] ms, under the
// token ARGV[1]; else with 0. ARGV[5]: "take" it if it is free, "seize" it in any
// case, "look" only whether it is free, "again": take it whatever is there.
var acquireScript = redis.NewScript(readLua + `
if ARGV[5] ~= 'again' then
  local have, version = read(KEYS[1])
  local till = string.sub(have, 22, 34)
  if version and #till == 13 and not string.find(till, '%D') and till > ARGV[3] and version >= ARGV[4] then
    return redis.call('GET', KEYS[1])
  end
end
if ARGV[5] == 'look' then
  return 1 - redis.call('EXISTS', KEYS[2])
end
if ARGV[5] == 'seize' then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return 1
end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 1
end
return 0
`)

// fillScript stores the loaded entry ARGV[1] for ARGV[2] ms if the lease KEYS[2]
// still has the token ARGV[3] and, if ARGV[5] is not empty, KEYS[3] still has that,
// the generation. It answers 1, or -1 if it may not, or with what is stored if that
// is newer (0 if that is past its end at ARGV[4] and so no answer).
//
// Puts take leases away, so what is stored is older than the load or of its
// version; an entry of the same version is replaced only if it is past its end,
// or if there are generations of queries. That there is nothing (version 0) is news
// to whatever is stored, and takes over its version.
//
// Without ARGV[5], KEYS[3] and later ones are the same entry in further generations.
// They get it too, unless they have it or a later one.
var fillScript = redis.NewScript(readLua + `
if redis.call('GET', KEYS[2]) ~= ARGV[3] then
  return -1
end
local query = ARGV[5] ~= ''
if query and redis.call('GET', KEYS[3]) ~= ARGV[5] then
  redis.call('DEL', KEYS[2])
  return -1
end
local have, old = read(KEYS[1])
local text = ARGV[1]
local new = string.sub(text, 1, 20)
if old then
  local over = string.sub(have, 22, 34) <= ARGV[4]
  if new == '00000000000000000000' and string.sub(text, 21, 21) == 'n' then
    text = old .. string.sub(text, 21)
  elseif old > new or (old == new and not over and not query) then
    redis.call('DEL', KEYS[2])
    if over then return 0 end
    return redis.call('GET', KEYS[1])
  end
end
local done = 1
if tonumber(ARGV[2]) > 0 then
  done = redis.pcall('SET', KEYS[1], text, 'PX', ARGV[2])
  if not done.err then done = 1 end
  for i = 3, query and 0 or #KEYS do
    local have, ok = read(KEYS[i])
    if newer(text, have) or (ok == new and string.sub(have, 22, 34) <= ARGV[4]) then
      redis.pcall('SET', KEYS[i], text, 'PX', ARGV[2])
    end
  end
end
redis.call('DEL', KEYS[2])
return done
`)

// dropScript gives the lease KEYS[1] back if it is the caller's.
var dropScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
`)

// expireScript makes the entry KEYS[1] count for nothing, but keeps its version,
// so that nothing older can take its place. It takes the lease KEYS[2] away.
var expireScript = redis.NewScript(readLua + `
redis.call('DEL', KEYS[2])
local have, ok = read(KEYS[1])
if ok then
  redis.call('SETRANGE', KEYS[1], 21, '0000000000000')
  return 1
end
return redis.call('DEL', KEYS[1])
`)

// forgetScript removes the entry KEYS[1] and its lease KEYS[2].
var forgetScript = redis.NewScript(`
redis.call('DEL', KEYS[2])
return redis.call('DEL', KEYS[1])
`)

// corruptScript removes KEYS[1] if it still is what could not be read.
var corruptScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
`)
