package cache_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/millrace-go/millrace/adapters/cache"
)

// model is the truth of the race: a table whose rows come, change and go, and the
// log of events that its transactions left behind. Versions of an id rise over
// deletion, as those of an aggregate do.
type model struct {
	mu  sync.Mutex
	ids []history
	log []cache.Put[thing] // in commit order
	rng func() uint64
}

// history is of one id: live[v] tells what version v made of it. Version 0 is
// that it was never there.
type history struct {
	live []bool
	told []told // rising
}

// told is that Redis had taken the news of a version at that time.
type told struct {
	version int64
	at      time.Time
}

// tell notes that Redis has taken events.
func (m *model) tell(events ...cache.Put[thing]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		h := &m.ids[indexOf(e.ID)]
		if n := len(h.told); n == 0 || h.told[n-1].version < e.Entry.Version {
			h.told = append(h.told, told{e.Entry.Version, time.Now()})
		}
	}
}

// toldBy is the newest version of i that Redis had heard of before at.
func (m *model) toldBy(i int, at time.Time) (version int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.ids[i].told
	for n := len(h) - 1; n >= 0; n-- {
		if h[n].at.Before(at) {
			return h[n].version
		}
	}
	return 0
}

func newModel(n int, rng func() uint64) *model {
	m := &model{ids: make([]history, n), rng: rng}
	for i := range m.ids {
		m.ids[i].live = []bool{false}
	}
	return m
}

func idOf(i int) string { return fmt.Sprintf("id-%d", i) }

func indexOf(id string) (i int) {
	_, _ = fmt.Sscanf(id, "id-%d", &i)
	return i
}

// change commits the next version of i and returns its event.
func (m *model) change(i int, live bool) cache.Put[thing] {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.ids[i]
	h.live = append(h.live, live)
	e := m.entry(i)
	m.log = append(m.log, cache.Put[thing]{ID: idOf(i), Entry: e})
	return m.log[len(m.log)-1]
}

// entry is the row of i, or the tombstone of what deleted it. Under the mutex.
func (m *model) entry(i int) cache.Entry[thing] {
	v := int64(len(m.ids[i].live) - 1)
	if m.ids[i].live[v] {
		return cache.Found(v, named(idOf(i), v))
	}
	return cache.Entry[thing]{Version: v, State: cache.Missing}
}

// load is the database's answer: of a deleted row it knows nothing.
func (m *model) load(ctx context.Context, id string) (cache.Entry[thing], error) {
	i := indexOf(id)
	m.slowDown()
	m.mu.Lock()
	e := m.entry(i)
	m.mu.Unlock()
	m.slowDown()
	if e.State == cache.Missing {
		return cache.Entry[thing]{}, cache.ErrNotFound
	}
	return e, ctx.Err()
}

// slowDown is quick more often than not.
func (m *model) slowDown() {
	switch n := m.rng(); n % 4 {
	case 0:
		<-time.After(time.Duration(n>>8%2000) * time.Microsecond)
	}
}

// events returns up to n events from at on.
func (m *model) events(at, n int) []cache.Put[thing] {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log[at:min(at+n, len(m.log))])
}

func (m *model) logged() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.log)
}

// witness is one reader: the version from which it knows of each id. What Redis
// had heard of when it began to ask it has to see, too.
type witness struct {
	m    *model
	seen []int64
}

func newWitness(m *model) *witness { return &witness{m, make([]int64, len(m.ids))} }

// judge says what is wrong with e as the next answer about i, and nothing if it
// may be. That something is missing has no exact version; it is taken for the
// oldest deletion that it can be about.
func (w *witness) judge(i int, e cache.Entry[thing]) string {
	w.m.mu.Lock()
	live := w.m.ids[i].live
	w.m.mu.Unlock()
	if e.State == cache.Live {
		v := e.Version
		switch {
		case v <= 0 || v >= int64(len(live)) || !live[v]:
			return fmt.Sprintf("%s: version %d was never live", idOf(i), v)
		case e.Value != named(idOf(i), v):
			return fmt.Sprintf("%s: version %d shows %+v", idOf(i), v, e.Value)
		case v < w.seen[i]:
			return fmt.Sprintf("%s: went back from version %d to %d", idOf(i), w.seen[i], v)
		}
		w.seen[i] = v
		return ""
	}
	for v := max(w.seen[i], e.Version); v < int64(len(live)); v++ {
		if !live[v] {
			w.seen[i] = v
			return ""
		}
	}
	return fmt.Sprintf("%s: is missing (version %d) after version %d, and was never deleted since", idOf(i), e.Version, w.seen[i])
}

// lockedRand is a seeded source for many goroutines.
func lockedRand(seed uint64) func() uint64 {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 1))
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return rng.Uint64()
	}
}
