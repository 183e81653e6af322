package views

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Names of the views.
const (
	Status     = "notification" // status by notification
	Recipients = "recipient"    // newest notifications by recipient
	Counters   = "counters"     // counters by day
)

var names = []string{Status, Recipients, Counters}

// Generations of one view. Live answers; what is written goes to all of them.
type Generations struct {
	// Live is the generation that answers.
	Live string
	// Next, if not empty, is being built.
	Next string
	// Last, if not empty, was live before, and is kept up for those who have not yet
	// heard of the change.
	Last string
}

// written are the generations that events go to, the newest first: a reader who
// changes from one to the next must find there what it has seen before.
func (g Generations) written() []string {
	return slices.DeleteFunc([]string{g.Next, g.Live, g.Last}, func(s string) bool { return s == "" })
}

// filled are the generations that a reader fills, the one that it asked first. What
// it puts there may be newer than anything that has been applied, so the next one
// must have it, too.
func (g Generations) filled() []string {
	if g.Next == "" {
		return []string{g.Live}
	}
	return []string{g.Live, g.Next}
}

// hearsay is how long a reader may take what it knows of generations for true.
const hearsay = time.Second

// generations knows which generations each view has: a Redis hash for each, with
// the fields of Generations. They are drawn, never counted: a counter that was
// evicted would start again, and bring old entries back to life.
type generations struct {
	rdb redis.Cmdable
	cfg Config

	mu    sync.Mutex
	known map[string]Generations
	until time.Time
}

func newGenerations(rdb redis.Cmdable, cfg Config) *generations {
	return &generations{rdb: rdb, cfg: cfg}
}

func (g *generations) key(name string) string { return g.cfg.Prefix + name + ":generation" }

// draw makes a name for a generation that nobody had before.
func draw() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	return strconv.FormatInt(time.Now().UnixMicro(), 36) + hex.EncodeToString(b[:])
}

func (g *generations) live(ctx context.Context, name string) (string, error) {
	known, err := g.of(ctx, name)
	return known.Live, err
}

func (g *generations) of(ctx context.Context, name string) (Generations, error) {
	known, err := g.all(ctx)
	return known[name], err
}

// all returns the generations of every view. What it knows it takes for true for a
// moment; then it asks, and begins those that are not there.
func (g *generations) all(ctx context.Context) (map[string]Generations, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known != nil && time.Now().Before(g.until) {
		return g.known, nil
	}
	asked := time.Now()
	looks := make([]*redis.MapStringStringCmd, len(names))
	_, err := g.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			p.HSetNX(ctx, g.key(name), "live", draw())
			looks[i] = p.HGetAll(ctx, g.key(name))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("generations of the views: %w", err)
	}
	known := make(map[string]Generations, len(names))
	for i, name := range names {
		known[name] = parseGenerations(looks[i].Val())
	}
	g.known, g.until = known, asked.Add(hearsay)
	return known, nil
}

// forget makes the next call of all ask.
func (g *generations) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = nil
}

// check makes a batch look at the generations once it has written.
func (g *generations) check(b *batch) {
	for _, name := range names {
		b.looks = append(b.looks, g.key(name))
	}
}

// confirm reports that a batch found the generations as they were said to be: then
// it has written to all of them.
func (g *generations) confirm(b *batch, said map[string]Generations) bool {
	found := make(map[string]Generations, len(names))
	for i, name := range names {
		found[name] = parseGenerations(b.seen[i])
	}
	return maps.Equal(said, found)
}

func parseGenerations(fields map[string]string) Generations {
	return Generations{Live: fields["live"], Next: fields["next"], Last: fields["last"]}
}
