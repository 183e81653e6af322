package rebuild

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

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/internal/backoff"
)

// A rebuild keeps its state in the hash of the view's generations, so that both are
// lost together: which process builds ("builder", until "builder_until", Unix
// milliseconds of Redis's clock), and how far the generation "of" is: "from",
// "position" to go on from, and how the server was when the generation was begun.

// lockScript has KEYS: hash; ARGV: owner, lease in milliseconds. It answers with the
// process that has the lock, or ” if the owner has it now.
var lockScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local holder = redis.call('HGET', KEYS[1], 'builder')
if holder and holder ~= ARGV[1] and tonumber(redis.call('HGET', KEYS[1], 'builder_until') or '0') > now then
  return holder
end
redis.call('HSET', KEYS[1], 'builder', ARGV[1], 'builder_until', string.format('%.0f', now + ARGV[2]))
return ''
`)

// changeScript has KEYS: hash; ARGV: owner, then 'set' with pairs of fields, 'free',
// or 'flip' with a generation. It changes nothing if the owner has lost the lock.
var changeScript = redis.NewScript(`
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

// state is what a rebuild finds of earlier ones.
type state struct {
	cache.Generations
	of             string
	begun, here    server
	from, position int64
	ended          []string // generations whose keys may not all be deleted
}

// resumable reports whether the unfinished generation has all up to its position. A
// server that was started again may have lost some of it.
func (s *state) resumable() bool {
	return s.Next != "" && s.of == s.Next && s.begun.id == s.here.id
}

// server tells whether Redis may have lost something since.
type server struct {
	id      string // drawn by Redis when it started
	evicted string // how many keys it has evicted
	time    int64  // Unix milliseconds
}

func (b *Builder) key() string { return b.tracker.key(b.view.Name) }

// read reads the state and changes nothing.
func (b *Builder) read(ctx context.Context) (state, error) {
	fields, err := b.tracker.rdb.HGetAll(ctx, b.key()).Result()
	if err != nil {
		return state{}, err
	}
	found := state{Generations: parseGenerations(fields), of: fields["of"]}
	if found.here, err = b.server(ctx); err != nil {
		return state{}, err
	}
	found.begun = server{id: fields["server"], evicted: fields["evicted"]}
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

// server asks Redis how it is now.
func (b *Builder) server(ctx context.Context) (server, error) {
	info, err := b.tracker.rdb.Info(ctx).Result()
	now := server{time: time.Now().UnixMilli()}
	for line := range strings.Lines(info) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "run_id":
			now.id = value
		case "evicted_keys":
			now.evicted = value
		}
	}
	return now, err
}

// locked calls do while no other process may rebuild the view. Its context ends
// when the lock is lost.
func (b *Builder) locked(ctx context.Context, do func(context.Context) error) error {
	if err := b.lock(ctx); err != nil {
		return err
	}
	working, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.renew(working); err != nil {
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
	_ = b.change(last, "free") // if that fails, the lease ends by itself
	return err
}

func (b *Builder) lock(ctx context.Context) error {
	holder, err := lockScript.Run(ctx, b.tracker.rdb, []string{b.key()}, b.owner, b.cfg.Lease.Milliseconds()).Text()
	if err == nil && holder != "" {
		err = fmt.Errorf("%w: %s: wait for it; if it was killed, its lock ends after %s", ErrBusy, holder, b.cfg.Lease)
	}
	return err
}

// renew renews the lock until ctx ends, and returns why it could not. Errors of
// the server do not matter while the lease runs.
func (b *Builder) renew(ctx context.Context) error {
	until := time.Now().Add(b.cfg.Lease)
	for backoff.Sleep(ctx, b.cfg.Lease/4) == nil {
		asked := time.Now()
		err := b.lock(ctx)
		switch {
		case err == nil:
			until = asked.Add(b.cfg.Lease)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrBusy) || time.Now().After(until):
			return err
		}
	}
	return nil
}

// change changes the state, unless the lock is lost.
func (b *Builder) change(ctx context.Context, args ...any) error {
	answer, err := changeScript.Run(ctx, b.tracker.rdb, []string{b.key()}, append([]any{b.owner}, args...)...).Text()
	switch {
	case err != nil:
		return err
	case answer == "lost":
		return ErrBusy
	case answer == "gone":
		return ErrGeneration
	}
	return nil
}
