package views

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A rebuild keeps its state in the hash of the view's generations, so that both
// are lost together: who builds ("builder", until "builder_until", Unix
// milliseconds of Redis' clock), and how far the generation "of" is: "from",
// "position" to go on from, and the circumstances in which it was begun.

// KEYS: hash. ARGV: owner, lease in milliseconds.
var claimRebuild = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local holder = redis.call('HGET', KEYS[1], 'builder')
if holder and holder ~= ARGV[1] and tonumber(redis.call('HGET', KEYS[1], 'builder_until') or '0') > now then
  return holder
end
redis.call('HSET', KEYS[1], 'builder', ARGV[1], 'builder_until', string.format('%.0f', now + ARGV[2]))
return ''
`)

// KEYS: hash. ARGV: owner, then what to do with the fields that follow:
// 'set' pairs, 'free', or 'flip' a generation.
var ownRebuild = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'builder') ~= ARGV[1] then
  return 'lost'
end
if ARGV[2] == 'free' then
  redis.call('HDEL', KEYS[1], 'builder', 'builder_until')
elseif ARGV[2] == 'set' then
  redis.call('HSET', KEYS[1], unpack(ARGV, 3))
elseif redis.call('HGET', KEYS[1], 'next') ~= ARGV[3] or redis.call('HGET', KEYS[1], 'of') ~= ARGV[3] then
  return 'gone'
else
  local live = redis.call('HGET', KEYS[1], 'live')
  redis.call('HSET', KEYS[1], 'live', ARGV[3])
  redis.call('HDEL', KEYS[1], 'next', 'of', 'from', 'position', 'server', 'evicted', 'begun')
  if live then
    redis.call('HSET', KEYS[1], 'last', live)
  end
end
return ''
`)

// progress is what a rebuild finds of earlier ones.
type progress struct {
	Generations
	of             string
	begun, here    circumstances
	from, position int64
	ended          []string // generations whose keys may not all be deleted
}

// resumable reports that the unfinished generation has all up to its position. A
// server that was started again may have lost some of it.
func (p *progress) resumable() bool {
	return p.Next != "" && p.of == p.Next && p.begun.server == p.here.server
}

// circumstances tell whether Redis may have lost something since.
type circumstances struct {
	server  string // the id that Redis drew when it started
	evicted string // how many keys it has evicted
	time    int64  // Unix milliseconds
}

func (r *Rebuilder) key() string { return r.p.v.generations.key(r.p.name) }

// look reads the state and changes nothing.
func (r *Rebuilder) look(ctx context.Context) (progress, error) {
	fields, err := r.p.v.rdb.HGetAll(ctx, r.key()).Result()
	if err != nil {
		return progress{}, err
	}
	found := progress{Generations: parseGenerations(fields), of: fields["of"]}
	if found.here, err = r.here(ctx); err != nil {
		return progress{}, err
	}
	found.begun = circumstances{server: fields["server"], evicted: fields["evicted"]}
	found.begun.time, _ = strconv.ParseInt(fields["begun"], 10, 64)
	found.from, _ = strconv.ParseInt(fields["from"], 10, 64)
	found.position, _ = strconv.ParseInt(fields["position"], 10, 64)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if generation, ok := strings.CutPrefix(field, ended); ok {
			found.ended = append(found.ended, generation)
		}
	}
	return found, nil
}

// here are the circumstances now.
func (r *Rebuilder) here(ctx context.Context) (circumstances, error) {
	info, err := r.p.v.rdb.Info(ctx).Result()
	now := circumstances{time: time.Now().UnixMilli()}
	for line := range strings.Lines(info) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "run_id":
			now.server = value
		case "evicted_keys":
			now.evicted = value
		}
	}
	return now, err
}

// claimed calls do while nobody else may rebuild the view. Its context ends when
// the claim is lost.
func (r *Rebuilder) claimed(ctx context.Context, do func(context.Context) error) error {
	if err := r.claim(ctx); err != nil {
		return err
	}
	working, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.keep(working); err != nil {
			cancel(err)
		}
	}()
	err := do(working)
	if cause := context.Cause(working); err != nil && cause != nil && ctx.Err() == nil {
		err = cause
	}
	cancel(nil)
	<-done
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer stop()
	_ = r.own(last, "free") // or else the lease ends by itself
	return err
}

func (r *Rebuilder) claim(ctx context.Context) error {
	holder, err := claimRebuild.Run(ctx, r.p.v.rdb, []string{r.key()}, r.owner, r.cfg.Lease.Milliseconds()).Text()
	if err == nil && holder != "" {
		err = fmt.Errorf("%w: %s: wait for it; if it was killed, its claim ends after %s", ErrRebuilding, holder, r.cfg.Lease)
	}
	return err
}

// keep renews the claim until ctx ends, and returns why it could not. Errors of
// the server are of no matter while the lease runs.
func (r *Rebuilder) keep(ctx context.Context) error {
	until := time.Now().Add(r.cfg.Lease)
	for pause(ctx, r.cfg.Lease/4) == nil {
		asked := time.Now()
		err := r.claim(ctx)
		switch {
		case err == nil:
			until = asked.Add(r.cfg.Lease)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrRebuilding) || time.Now().After(until):
			return err
		}
	}
	return nil
}

// own does something with the state, which is refused if the claim is lost.
func (r *Rebuilder) own(ctx context.Context, args ...any) error {
	answer, err := ownRebuild.Run(ctx, r.p.v.rdb, []string{r.key()}, append([]any{r.owner}, args...)...).Text()
	switch {
	case err != nil:
		return err
	case answer == "lost":
		return ErrRebuilding
	case answer == "gone":
		return ErrGeneration
	}
	return nil
}

// sweep removes what earlier rebuilds left behind.
func (r *Rebuilder) sweep(ctx context.Context, found progress) error {
	if found.Last != "" {
		if err := r.p.Drop(ctx, found.Last); err != nil {
			return err
		}
	}
	for _, generation := range found.ended {
		if err := r.p.Drop(ctx, generation); err != nil {
			return err
		}
	}
	return nil
}
