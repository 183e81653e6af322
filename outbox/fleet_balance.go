package outbox

import (
	"cmp"
	"strings"
	"time"
)

// balance decides for one instance of a fleet which free leases it takes and
// which outboxes it hands over. It does no I/O and has no clock, so that a
// simulation can drive it; its callers take turns.
//
// A leader hands an outbox over if a standby of it has led at least two outboxes
// fewer for the time handOverAfter. Each such move reduces the sum of the squares of
// the numbers that the instances lead. So the moves come to an end, and then no two
// instances that share all outboxes differ by more than one. What an instance knows
// of the others is up to two intervals old. Therefore it hands over one outbox at a
// time, pauses for a lease after every move that it sees, and lets instances that
// lead more go first. Scripts that show it at work are in testdata/balance.
type balance struct {
	me            string
	handOverAfter time.Duration
	ttl           time.Duration // the lease's, and that of what is announced
	places        []place

	moving  int       // the place that is being handed over; -1 if none
	changed time.Time // when the last hand-over ended, or another instance was last seen to lead more or fewer
	refused int       // hand-overs in a row that no instance accepted
}

// place is what an instance knows of one outbox.
type place struct {
	leads  bool
	trying bool // it is about to try for the lease
	owner  string

	others map[string]*peer
	seen   time.Time // when others was last updated
	mine   bool      // the lease runs and is this instance's own
	until  time.Time // when the lease ends, or ended, as far as is known
	free   time.Time // since when the lease is known to be free; zero while it is held
	last   string    // the other instance that was last seen to hold it

	abstain time.Time // until when the lease is left to others
	offered bool      // it was handed over, and no instance has been seen to take it
}

// peer is another instance that is ready for an outbox.
type peer struct {
	leads int
	low   time.Time // since when it is known to lead two fewer, or less; zero if it does not
}

// interval is the time between two announcements, and between two renewals.
func (b *balance) interval() time.Duration { return b.ttl * 9 / 20 }

// maxRefused bounds how far the pause after refused hand-overs grows.
const maxRefused = 7

func newBalance(me string, handOverAfter, ttl time.Duration, owners []string) *balance {
	b := &balance{me: me, handOverAfter: handOverAfter, ttl: ttl, places: make([]place, len(owners)), moving: -1}
	for i := range b.places {
		b.places[i].owner = owners[i]
	}
	return b
}

// instanceOf is the instance in the name of a lease's owner.
func instanceOf(owner string) string {
	if i := strings.LastIndexByte(owner, '/'); i >= 0 {
		return owner[:i]
	}
	return owner
}

// self is what to announce.
func (b *balance) self() Member { return Member{ID: b.me, Leads: b.count(false)} }

// count is how many outboxes this instance leads, or is about to.
func (b *balance) count(trying bool) (n int) {
	for i := range b.places {
		if b.places[i].leads || trying && b.places[i].trying {
			n++
		}
	}
	return n
}

// observe records the members of place i.
func (b *balance) observe(i int, members Members, now time.Time) {
	p := &b.places[i]
	peers := make(map[string]*peer, len(members.Others))
	for _, o := range members.Others {
		known := p.others[o.ID]
		if known == nil {
			known = &peer{leads: o.Leads}
		}
		if known.leads != o.Leads {
			known.leads, b.changed = o.Leads, now
		}
		peers[o.ID] = known
	}
	p.others, p.seen = peers, now
	p.mine = members.Owner == p.owner
	switch {
	case members.Owner == "":
		if p.free.IsZero() {
			p.free = now
		}
	default:
		p.free, p.until = time.Time{}, now.Add(members.Left)
		if !p.mine {
			p.last = instanceOf(members.Owner)
			b.leaseTaken(p)
		}
	}
}

// leaseTaken records that another instance holds the lease of p.
func (b *balance) leaseTaken(p *place) {
	if p.offered {
		p.offered, b.refused = false, 0
	}
	p.abstain = time.Time{}
}

// standbyWait returns how long a standby waits before it asks again; 0 means that it
// must try for the lease now, and report the outcome by acquired.
func (b *balance) standbyWait(i int, now time.Time) time.Duration {
	p := &b.places[i]
	wait := time.Duration(0)
	switch {
	case now.Before(p.abstain):
		wait = p.abstain.Sub(now)
	case p.mine: // left over from a session that broke
	case p.free.IsZero():
		wait = p.until.Sub(now)
	default:
		wait = p.free.Add(b.deference(p)).Sub(now)
	}
	if wait > 0 {
		return min(wait, b.interval())
	}
	p.trying = true
	if p.offered {
		p.offered = false
		b.refused++
	}
	return 0
}

// deference is how long this instance leaves a free lease to instances that lead
// fewer. The last holder is not among them: it died, stopped or handed it over.
func (b *balance) deference(p *place) time.Duration {
	low, found := 0, false
	for id, o := range p.others {
		if id != p.last && (!found || o.leads < low) {
			low, found = o.leads, true
		}
	}
	if !found {
		return 0
	}
	if more := b.count(true) - low; more > 0 { // an interval, in which they ask
		return b.interval() + time.Duration(min(more, 3))*b.ttl/10
	}
	return 0
}

// acquired records the outcome of an attempt to take the lease of place i.
func (b *balance) acquired(i int, ok bool) {
	p := &b.places[i]
	p.trying, p.leads = false, ok
	if ok {
		p.free, p.last, p.offered = time.Time{}, "", false
	}
}

// handOver decides whether place i, which this instance leads and whose members it
// has just observed, must be handed over, and to which instance.
func (b *balance) handOver(i int, now time.Time) (to Member, ok bool) {
	p := &b.places[i]
	own, pause := b.count(false), time.Duration(1+b.first(now))*b.ttl
	atLeast := b.handOverAfter + pause // an entry outlives its instance by a ttl
	if b.refused > 0 {
		pause += b.handOverAfter << min(b.refused, maxRefused)
	}
	for id, o := range p.others {
		if own-o.leads < 2 {
			o.low = time.Time{}
			continue
		}
		if o.low.IsZero() {
			o.low = now
		}
		better := !ok || cmp.Or(cmp.Compare(o.leads, to.Leads), cmp.Compare(id, to.ID)) < 0
		if better && now.Sub(o.low) >= atLeast {
			to, ok = Member{id, o.leads}, true
		}
	}
	if !ok || !p.leads || b.moving >= 0 || now.Sub(b.changed) < pause {
		return Member{}, false
	}
	b.moving = i
	return to, true
}

// first counts the instances that hand over before this one: they lead more, or as
// many and come later by name.
func (b *balance) first(now time.Time) int {
	own := b.self()
	before := map[string]bool{}
	for i := range b.places {
		if now.Sub(b.places[i].seen) > b.ttl {
			continue
		}
		for id, o := range b.places[i].others {
			if cmp.Or(cmp.Compare(o.leads, own.Leads), cmp.Compare(id, own.ID)) > 0 {
				before[id] = true
			}
		}
	}
	return len(before)
}

// ended records that the leadership of place i is over, and reports whether it was
// handed over.
func (b *balance) ended(i int, now time.Time) (handedOver bool) {
	p := &b.places[i]
	p.leads = false
	for _, o := range p.others {
		o.low = time.Time{}
	}
	if b.moving != i {
		return false
	}
	b.moving, b.changed = -1, now
	p.abstain, p.offered = now.Add(b.ttl), true
	p.mine, p.free = false, now
	return true
}
