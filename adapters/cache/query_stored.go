package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// generationText is a Lua function. A generation is the server's time in
// microseconds and three random digits: unlike a counter's, its values do not
// come again after the key was evicted or flushed, and with them old results.
const generationText = `
local function generation(random)
  local t = redis.call('TIME')
  return '0' .. string.sub('0000000000' .. t[1], -10) .. string.sub('000000' .. t[2], -6) .. random
end
`

// ensureScript returns the generation in KEYS[1], beginning one if there is none.
var ensureScript = redis.NewScript(generationText + `
local gen = redis.pcall('GET', KEYS[1])
if type(gen) ~= 'string' or #gen ~= 20 or string.find(gen, '%D') then
  gen = generation(ARGV[1])
  redis.call('SET', KEYS[1], gen)
end
return gen
`)

// renewScript begins a new generation in KEYS[1].
var renewScript = redis.NewScript(generationText + `
local gen = generation(ARGV[1])
if redis.pcall('GET', KEYS[1]) == gen then
  gen = string.sub(gen, 1, 19) .. (tonumber(string.sub(gen, 20)) + 1) % 10
end
redis.call('SET', KEYS[1], gen)
return gen
`)

func threeDigits() string { return fmt.Sprintf("%03d", rand.IntN(1000)) }

// stored reads the generation, and the entry of digest in it.
func (q *Query[A, T]) stored(ctx context.Context, digest string) (gen string, r raw, result Result) {
	if owed := q.owed.Load(); owed != 0 {
		if err := q.renew(ctx, owed); err != nil {
			return q.fail(err)
		}
	}
	gen, text, err := q.fetch(ctx, digest)
	switch {
	case err != nil:
		return q.fail(err)
	case text == nil:
		return gen, raw{}, ResultMiss
	}
	r, err = parse(text)
	switch {
	case err != nil, strconv.FormatInt(r.version, 10) != gen[1:], r.state == Revoked:
		q.removeCorrupt(ctx, q.prefix+gen+":"+digest, text, errors.Join(errCorrupt, err))
		return gen, raw{}, ResultCorrupt
	case !r.live(q.store.cfg.Now()):
		return gen, raw{}, ResultMiss
	case r.state == Missing:
		return gen, r, ResultNegative
	}
	return gen, r, ResultHit
}

func (q *Query[A, T]) fail(err error) (string, raw, Result) { //nolint:unparam // what its callers return
	q.store.cfg.Hooks.Trouble(q.name, fmt.Errorf("cache %s: %w", q.name, err))
	return "", raw{}, ResultError
}

// fetch asks in one round trip for the generation, and for the entry in the one
// that it was the last time. Only if it is another by now, it asks again.
func (q *Query[A, T]) fetch(ctx context.Context, digest string) (gen string, text []byte, err error) {
	for range maxLate {
		last := ""
		if p := q.last.Load(); p != nil {
			last = *p
		}
		start := time.Now()
		if !q.store.breaker.allow() {
			return "", nil, errBreakerOpen
		}
		got, err := q.store.rdb.MGet(ctx, q.genKey, q.prefix+last+":"+digest).Result()
		if err == nil && len(got) != 2 {
			err = errors.New("unexpected answer")
		}
		q.store.breaker.report(faultOf(ctx, err, start))
		if err != nil {
			return "", nil, unavailable(err)
		}
		gen, _ = got[0].(string)
		if _, ok := digits([]byte(gen)); !ok || len(gen) != versionEnd {
			answer, err := q.store.run(ctx, ensureScript, []string{q.genKey}, threeDigits())
			if err != nil {
				return "", nil, err
			}
			gen, _ = answer.(string)
		} else if gen == last {
			if entry, ok := got[1].(string); ok {
				text = []byte(entry)
			}
			return gen, text, nil
		}
		q.last.Store(&gen)
	}
	return gen, nil, nil // it changes all the time: what there may be is hardly worth having
}

// refreshEarly loads a result again before it ends, one reader of all processes
// at a time and only if the bulkhead has capacity, so that a popular result never
// ends foreverybody at once. How early is drawn by XFetch (Vattani, Chierichetti
// and Lowenstein, 2015): the longer the load takes, the earlier.
func (q *Query[A, T]) refreshEarly(ctx context.Context, req request, r raw) {
	if q.cfg.Beta < 0 || !due(q.store.cfg.Now().UnixMilli(), r.expiry, r.delta, q.cfg.Beta, 1-rand.Float64()) {
		return
	}
	req.again = true
	q.flights.DoChan(req.key+"\x00again", func() (any, error) {
		if err := q.store.begin(); err != nil {
			return nil, err
		}
		defer q.store.running.Done()
		_, err := q.fly(context.WithoutCancel(ctx), req)
		if err != nil && !errors.Is(err, errBusy) && !errors.Is(err, errDirect) {
			q.store.cfg.Hooks.Trouble(q.name, fmt.Errorf("cache %s: refresh: %w", q.name, err))
		}
		return nil, nil
	})
}

// due draws whether to load early; u is uniform in (0, 1]. Times in milliseconds.
// A load quicker than a millisecond counts as one.
func due(now, expiry, delta int64, beta, u float64) bool {
	return float64(now)-float64(max(delta, 1))*beta*math.Log(u) >= float64(expiry)
}
