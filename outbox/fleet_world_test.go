package outbox

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// world is a simulated fleet: balances that meet on member lists and take leases, all
// on one clock, with delays, deaths and freezes.
type world struct {
	rng     *rand.Rand
	now     time.Time
	ttl     time.Duration
	settle  time.Duration
	queue   events
	serial  int
	outbox  []*simOutbox
	running []*simInstance
	born    int

	handOvers int
	unled     []time.Duration // how long each outbox was without a leader, one entry each time
	history   []string
}

type simOutbox struct {
	owner   string
	until   time.Time
	since   time.Time // since when nobody leads it; zero if somebody does
	members map[string]simEntry
}

type simEntry struct {
	leads int
	until time.Time
}

type simInstance struct {
	id     string
	b      *balance
	serves []int // outboxes, by place
	dead   bool
	ending bool
	thaw   time.Time
	lazy   bool // it announces itself and cannot lead
}

type event struct {
	at time.Time
	n  int
	do func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func newWorld(seed uint64, outboxes int) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0), ttl: 2 * time.Second, settle: 5 * time.Second}
	for range outboxes {
		w.outbox = append(w.outbox, &simOutbox{members: map[string]simEntry{}, since: w.now})
	}
	return w
}

// after runs do later, on behalf of an instance: not if it is dead then, and not
// before it is thawed.
func (w *world) after(d time.Duration, in *simInstance, do func()) {
	w.serial++
	heap.Push(&w.queue, event{w.now.Add(d), w.serial, func() {
		switch {
		case in.dead:
		case w.now.Before(in.thaw):
			w.after(in.thaw.Sub(w.now), in, do)
		default:
			do()
		}
	}})
}

// run lets d pass.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for w.queue.Len() > 0 && !w.queue[0].at.After(end) {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.watch()
		e.do()
	}
	w.now = end
	w.watch()
}

// watch notes how long outboxes have been without a lease that runs.
func (w *world) watch() {
	for _, o := range w.outbox {
		if o.until.After(w.now) {
			if !o.since.IsZero() {
				w.unled = append(w.unled, w.now.Sub(o.since))
				o.since = time.Time{}
			}
		} else if o.since.IsZero() {
			o.since = w.now
			if o.until.Before(w.now) && o.owner != "" {
				o.since = o.until
			}
		}
	}
}

// rtt is a round trip to the database, sometimes a slow one.
func (w *world) rtt() time.Duration {
	d := time.Duration(1+w.rng.IntN(10)) * time.Millisecond
	if w.rng.IntN(50) == 0 {
		d += time.Duration(w.rng.IntN(300)) * time.Millisecond
	}
	return d
}

// join starts an instance that serves the given outboxes; none given means all.
func (w *world) join(serves ...int) *simInstance {
	if len(serves) == 0 {
		for o := range w.outbox {
			serves = append(serves, o)
		}
	}
	w.born++
	in := &simInstance{id: fmt.Sprintf("i%02d-%04x", w.born, w.rng.IntN(1<<16)), serves: serves}
	var owners []string
	for _, o := range serves {
		owners = append(owners, fmt.Sprint(in.id, "/", o))
	}
	in.b = newBalance(in.id, w.settle, w.ttl, owners)
	w.running = append(w.running, in)
	for place := range serves {
		w.after(w.rtt(), in, func() { w.standBy(in, place) })
	}
	return in
}

func (w *world) announce(in *simInstance, o *simOutbox, owner string) Members {
	members := Members{Left: o.until.Sub(w.now)}
	if members.Left > 0 {
		members.Owner = o.owner
	}
	for id, e := range o.members {
		if id != in.id && e.until.After(w.now) {
			members.Others = append(members.Others, Member{id, e.leads})
		}
	}
	o.members[in.id] = simEntry{in.b.self().Leads, w.now.Add(w.ttl)}
	return members
}

// standBy is one turn of fleetMember.await and of the attempt that may follow.
func (w *world) standBy(in *simInstance, place int) {
	if in.ending {
		return
	}
	o, owner := w.outbox[in.serves[place]], in.b.places[place].owner
	members := w.announce(in, o, owner)
	w.after(w.rtt(), in, func() {
		in.b.observe(place, members, w.now)
		if wait := in.b.standbyWait(place, w.now); wait > 0 {
			w.after(wait+w.rtt(), in, func() { w.standBy(in, place) })
			return
		}
		w.after(w.rtt(), in, func() {
			free := !o.until.After(w.now) || o.owner == owner
			if !free || in.lazy || in.ending {
				in.b.acquired(place, false)
				w.after(w.ttl/5, in, func() { w.standBy(in, place) })
				return
			}
			w.watch()
			o.owner, o.until = owner, w.now.Add(w.ttl)
			w.watch()
			in.b.acquired(place, true)
			began := w.now
			w.after(in.b.interval(), in, func() { w.renew(in, place, began) })
		})
	})
}

// renew is one turn of keepLease.
func (w *world) renew(in *simInstance, place int, renewed time.Time) {
	o, owner := w.outbox[in.serves[place]], in.b.places[place].owner
	if o.owner != owner || w.now.Sub(renewed) > w.ttl*9/10 {
		in.b.ended(place, w.now)
		w.after(w.rtt(), in, func() { w.standBy(in, place) })
		return
	}
	if in.ending {
		return
	}
	o.until = w.now.Add(w.ttl)
	members, began := w.announce(in, o, owner), w.now
	members.Owner = owner
	w.after(w.rtt(), in, func() {
		in.b.observe(place, members, w.now)
		to, yield := in.b.handOver(place, w.now)
		if !yield {
			w.after(in.b.interval(), in, func() { w.renew(in, place, began) })
			return
		}
		w.history = append(w.history, fmt.Sprintf("%s %s hands %d over to %s", w.clock(), in.id, in.serves[place], to.ID))
		w.after(time.Duration(w.rng.IntN(200))*time.Millisecond, in, func() { // drains
			if o.owner == owner {
				o.owner, o.until = "", w.now
				w.handOvers++
			}
			in.b.ended(place, w.now)
			w.after(w.rtt(), in, func() { w.standBy(in, place) })
		})
	})
}

func (w *world) clock() string { return w.now.UTC().Format("15:04:05.000") }

func (w *world) drop(in *simInstance) {
	w.running = slices.DeleteFunc(w.running, func(x *simInstance) bool { return x == in })
}

// kill ends an instance at once.
func (w *world) kill(in *simInstance) {
	in.dead = true
	w.drop(in)
}

// stop ends an instance gracefully.
func (w *world) stop(in *simInstance) {
	in.ending = true
	w.drop(in)
	for place, o := range in.serves {
		out := w.outbox[o]
		delete(out.members, in.id)
		if owner := in.b.places[place].owner; out.owner == owner {
			out.owner, out.until = "", w.now
		}
	}
}

// freeze stops an instance for d.
func (w *world) freeze(in *simInstance, d time.Duration) { in.thaw = w.now.Add(d) }

// leads counts the outboxes that each running instance holds the lease of.
func (w *world) leads() map[string]int {
	n := map[string]int{}
	for _, in := range w.running {
		n[in.id] = 0
	}
	for _, o := range w.outbox {
		if o.until.After(w.now) {
			n[instanceOf(o.owner)]++
		}
	}
	return n
}

// spread is the greatest difference between two running instances, and how many
// outboxes nobody leads.
func (w *world) spread() (difference, unled int) {
	low, high := len(w.outbox), 0
	for _, n := range w.leads() {
		low, high = min(low, n), max(high, n)
	}
	for _, o := range w.outbox {
		if !o.until.After(w.now) {
			unled++
		}
	}
	return max(high-low, 0), unled
}
