package rebuild

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
)

// HeardAfter is how long a process may use what it knows of the generations before
// it asks Redis again.
const HeardAfter = time.Second

// failedFor is how long calls get the error of one that could not ask Redis: each
// would have to wait for the one before.
const failedFor = 100 * time.Millisecond

// maxAttempts bounds how often Write and Read repeat because a rebuild has begun or
// ended a generation meanwhile.
const maxAttempts = 4

var errUnstable = errors.New("the generations of the views change all the time")

// Tracker knows which generations each of some views has: a Redis hash for each
// view, with the fields live, next and last. The names are drawn at random, not
// counted: a counter that was evicted would start again and bring old entries back.
// A Tracker is safe for concurrent use.
type Tracker struct {
	rdb    redis.Cmdable
	prefix string
	views  []string

	mu    sync.Mutex
	known map[string]cache.Generations
	err   error     // why they are not known
	until time.Time // until when known or err stands
}

// NewTracker returns a tracker of the views of these names, whose keys begin with
// prefix. It does no I/O.
func NewTracker(rdb redis.Cmdable, prefix string, views ...string) (*Tracker, error) {
	var errs []error
	if rdb == nil {
		errs = append(errs, errors.New("rdb: is nil"))
	}
	if len(views) == 0 {
		errs = append(errs, errors.New("views: must name at least one view"))
	}
	for i, name := range views {
		if name == "" || slices.Contains(views[:i], name) {
			errs = append(errs, fmt.Errorf("views: must be different names that are not empty, are %q", views))
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	return &Tracker{rdb: rdb, prefix: prefix, views: slices.Clone(views)}, nil
}

// KeyPrefix begins the keys of one generation of a view.
func (t *Tracker) KeyPrefix(view, generation string) string {
	return t.prefix + view + ":" + generation + ":"
}

// key is the hash of a view's generations.
func (t *Tracker) key(view string) string { return t.prefix + view + ":generation" }

// draw makes a name that no generation had before.
func draw() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	return strconv.FormatInt(time.Now().UnixMicro(), 36) + hex.EncodeToString(b[:])
}

// Of returns the generations of a view, as this process knows them. A view that has
// none yet gets its first one.
func (t *Tracker) Of(ctx context.Context, view string) (cache.Generations, error) {
	if !slices.Contains(t.views, view) {
		return cache.Generations{}, fmt.Errorf("rebuild: there is no view %q", view)
	}
	known, err := t.all(ctx)
	return known[view], err
}

// now is Of, asking Redis in any case.
func (t *Tracker) now(ctx context.Context, view string) (cache.Generations, error) {
	t.forget()
	return t.Of(ctx, view)
}

// all returns the generations of every view. It asks Redis once within HeardAfter.
func (t *Tracker) all(ctx context.Context) (map[string]cache.Generations, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if (t.known != nil || t.err != nil) && time.Now().Before(t.until) {
		return t.known, t.err
	}
	asked := time.Now()
	found := make([]*redis.MapStringStringCmd, len(t.views))
	_, err := t.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, view := range t.views {
			p.HSetNX(ctx, t.key(view), "live", draw())
			found[i] = p.HGetAll(ctx, t.key(view))
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("generations of the views: %w", err)
		t.known, t.err, t.until = nil, nil, time.Time{}
		if ctx.Err() == nil {
			t.err, t.until = err, time.Now().Add(failedFor)
		}
		return nil, err
	}
	known := make(map[string]cache.Generations, len(t.views))
	for i, view := range t.views {
		known[view] = parseGenerations(found[i].Val())
	}
	t.known, t.err, t.until = known, nil, asked.Add(HeardAfter)
	return known, nil
}

// forget makes the next call of all ask Redis.
func (t *Tracker) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known, t.err = nil, nil
}

// Write calls write with the generations of every view; it is to write to all that
// Written names. Then Write reads the generations again. If a rebuild has begun or
// ended one meanwhile, it calls write once more: so no generation misses a write. A
// check before the write could not promise that.
func (t *Tracker) Write(ctx context.Context, write func(ctx context.Context, all map[string]cache.Generations) error) error {
	for range maxAttempts {
		all, err := t.all(ctx)
		if err != nil {
			return err
		}
		if err := write(ctx, all); err != nil {
			return err
		}
		found, err := t.found(ctx, t.views...)
		if err != nil || maps.Equal(all, found) {
			return err
		}
		t.forget()
	}
	return errUnstable
}

// Read calls read with the generations of a view and then checks that the one that
// answered is still kept. If it is not, because this process stood still until the
// generation was dropped, it calls read once more: what was deleted is not a zero.
// A view whose readers ask the database for what they do not find can use Of.
func (t *Tracker) Read(ctx context.Context, view string, read func(ctx context.Context, g cache.Generations) error) error {
	for range maxAttempts {
		g, err := t.Of(ctx, view)
		if err != nil {
			return err
		}
		if err := read(ctx, g); err != nil {
			return err
		}
		found, err := t.found(ctx, view)
		if kept := found[view]; err != nil || g.Live == kept.Live || g.Live == kept.Last {
			return err
		}
		t.forget()
	}
	return errUnstable
}

// found reads the generations of views and begins none.
func (t *Tracker) found(ctx context.Context, views ...string) (map[string]cache.Generations, error) {
	cmds := make([]*redis.MapStringStringCmd, len(views))
	_, err := t.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, view := range views {
			cmds[i] = p.HGetAll(ctx, t.key(view))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("generations of the views: %w", err)
	}
	found := make(map[string]cache.Generations, len(views))
	for i, view := range views {
		found[view] = parseGenerations(cmds[i].Val())
	}
	return found, nil
}

func parseGenerations(fields map[string]string) cache.Generations {
	return cache.Generations{Live: fields["live"], Next: fields["next"], Last: fields["last"]}
}
