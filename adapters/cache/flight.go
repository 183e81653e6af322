package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// How a flight ends that has no answer.
var (
	errDirect = errors.New("redis is of no use")
	errBusy   = errors.New("somebody else is loading already")
	errLate   = errors.New("joined too late")

	errOtherGeneration = errors.New("another generation answers now")
)

// The pauses between looks at a lease that somebody else has.
const (
	pauseMin = 10 * time.Millisecond
	pauseMax = 50 * time.Millisecond
)

// maxLoads is how often one flight loads when writers get in between.
const maxLoads = 4

// How to ask for a lease; see acquireScript.
const (
	take  = "take"
	seize = "seize"
	look  = "look"
	again = "again"
)

// flight is one miss on its way to be filled.
type flight struct {
	*core
	request
	token string
	mode  string    // take, seize or again
	until time.Time // how long to wait for somebody else
	mark  int64     // when Redis was asked last
}

// fly gets the entry under the lease: it loads it, or waits for who does.
func (c *core) fly(ctx context.Context, r request) (outcome, error) {
	f := flight{core: c, request: r, token: strconv.FormatUint(rand.Uint64(), 36), mode: take}
	f.until = time.Now().Add(c.store.cfg.LeaseWait)
	if r.again {
		f.mode = again
	}
	var last outcome
	for range maxLoads {
		entry, release, err := f.lease(ctx)
		if err != nil {
			return outcome{}, err
		}
		if entry != nil {
			return outcome{*entry, f.mark}, nil
		}
		found, err := c.ask(ctx, r)
		release()
		if err != nil {
			f.drop(ctx)
			return outcome{}, err
		}
		var done bool
		if last, done, err = f.fill(ctx, found); done || err != nil {
			return last, err
		}
	}
	return last, nil
}

// lease waits until there is an entry, or this flight holds the lease and a slot
// of the bulkhead, which release gives back.
func (f *flight) lease(ctx context.Context) (entry *raw, release func(), err error) {
	for {
		slot := f.store.slot
		if f.mode == again {
			slot = f.store.slotNow
		}
		release, err := slot(ctx, f.name)
		if err != nil {
			return nil, nil, err
		}
		entry, held, err := f.acquire(ctx, f.mode)
		if held && err == nil {
			return nil, release, nil
		}
		release()
		if err == nil && entry == nil {
			entry, err = f.await(ctx)
		}
		if err != nil || entry != nil {
			return entry, nil, err
		}
	}
}

// await looks on while somebody else loads, outside the bulkhead, until there is
// an entry, or the lease is free, or it has taken too long: a process may have died.
func (f *flight) await(ctx context.Context) (*raw, error) {
	if f.mode == again {
		return nil, errBusy
	}
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		left := time.Until(f.until)
		if left <= 0 {
			f.mode = seize
			return nil, nil
		}
		if err := wait(ctx, min(left, rand.N(pause)+pause/2)); err != nil {
			return nil, err
		}
		if entry, free, err := f.acquire(ctx, look); err != nil || entry != nil || free {
			return entry, err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// acquire asks for the lease. Without an error it returns an entry that answers
// the request, or whether the lease is the flight's (when looking: free).
func (f *flight) acquire(ctx context.Context, mode string) (entry *raw, ok bool, err error) {
	cfg := f.store.cfg
	f.mark = f.clock.Add(1)
	answer, err := f.store.run(ctx, acquireScript, []string{f.key, leaseOf(f.key)}, f.token, max(cfg.LoadTimeout.Milliseconds(), 1),
		string(appendPadded(nil, cfg.Now().UnixMilli(), 13)), string(appendPadded(nil, f.version, versionEnd)), mode)
	if err != nil {
		return nil, false, f.useless("acquire lease", err)
	}
	switch v := answer.(type) {
	case int64:
		return nil, v == 1, nil
	case string:
		r, err := parse([]byte(v))
		if err != nil {
			return nil, false, f.useless("acquire lease", err)
		}
		return &r, false, nil
	}
	return nil, false, f.useless("acquire lease", fmt.Errorf("unexpected answer %T", answer))
}

func (f *flight) useless(doing string, err error) error {
	f.store.cfg.Hooks.Trouble(f.name, fmt.Errorf("cache %s: %s: %w", f.name, doing, err))
	return errDirect
}

// fill stores what was loaded. It is done unless the lease was lost, to a put or
// to somebody who would not wait: then what was loaded may be stale, and is the
// answer only for want of a better one.
func (f *flight) fill(ctx context.Context, found loaded) (last outcome, done bool, err error) {
	hooks := &f.store.cfg.Hooks
	keys := []string{f.key, leaseOf(f.key)}
	switch {
	case f.genKey != "":
		keys = append(keys, f.genKey)
	case f.also != nil:
		also, err := f.also(ctx)
		if errors.Is(err, errOtherGeneration) {
			f.drop(ctx)
			return outcome{}, true, err
		}
		if err != nil {
			hooks.Trouble(f.name, fmt.Errorf("cache %s: fill: %w", f.name, err))
			return outcome{raw: found.raw}, true, nil
		}
		keys = append(keys, also...)
	}
	f.mark = f.clock.Add(1)
	last = outcome{raw: found.raw}
	answer, err := f.store.run(ctx, fillScript, keys, found.append(nil), max(found.ttl.Milliseconds(), 0), f.token,
		string(appendPadded(nil, f.store.cfg.Now().UnixMilli(), 13)), f.gen)
	if err != nil {
		hooks.put(f.name, PutError, 1)
		hooks.Trouble(f.name, fmt.Errorf("cache %s: fill: %w", f.name, err))
		return last, true, nil
	}
	switch v := answer.(type) {
	case int64:
		if v == 1 {
			hooks.put(f.name, PutStored, 1)
			return outcome{found.raw, f.mark}, true, nil
		}
		hooks.put(f.name, PutRefused, 1)
		return last, f.genKey != "", nil
	case string:
		hooks.put(f.name, PutOlder, 1)
		if newer, err := parse([]byte(v)); err == nil {
			return outcome{newer, f.mark}, true, nil
		}
	}
	return last, false, nil
}

// drop gives the lease back after a load that came to nothing.
func (f *flight) drop(ctx context.Context) {
	if _, err := f.store.run(ctx, dropScript, []string{leaseOf(f.key)}, f.token); err != nil {
		f.store.cfg.Hooks.Trouble(f.name, fmt.Errorf("cache %s: give lease back: %w", f.name, err))
	}
}
