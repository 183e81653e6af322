package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/internal/problems"
)

// FleetConfig configures a Fleet. The zero value is usable.
type FleetConfig struct {
	// HandOverAfter is how long another instance must have led at least two outboxes
	// fewer before this one hands one over. At least the longest LeaseTTL.
	// Default 5 s, or twice the longest LeaseTTL if that is more.
	HandOverAfter time.Duration
	// WindowBytes is about the maximum number of payload bytes that all relays of
	// the fleet hold in memory. Each has an equal share, at least 1 MiB; its own
	// WindowBytes overrides that. Default 64 MiB.
	WindowBytes int
}

// FleetOutbox is one of the outboxes that a fleet serves.
type FleetOutbox struct {
	// Name is that of the outbox in statuses and errors, and part of the owner's
	// name in its lease. 1 to 64 characters of [A-Za-z0-9._-].
	Name string
	// Log is the outbox. If it implements Membership, the instances share the
	// outboxes evenly.
	Log Log
	// Publisher takes its messages. Relays must not share one: a relay that loses
	// its lead gives up everything in flight in its publisher.
	Publisher message.Publisher
	// Relay configures its relay. Relays of one name on one outbox stand in for
	// each other, whatever the outbox is called here.
	Relay RelayConfig
}

// Fleet serves many outboxes in one process, each by a relay with a cursor and a
// lease of its own. The instances of a fleet, all run with the same outboxes, stand
// in for each other per outbox and share the outboxes: a new instance is handed its
// share gracefully, without duplicates, until no instance leads two outboxes more
// than another. There is no coordinator: each outbox holds a list of the instances
// that are ready for it. A failure of one outbox does not stop the others.
type Fleet struct {
	instance string
	members  []*fleetMember
	names    []string

	mu      sync.Mutex
	balance *balance
}

// NewFleet returns a fleet. It starts nothing. The caller closes the publishers
// after Run has returned.
func NewFleet(outboxes []FleetOutbox, cfg FleetConfig) (*Fleet, error) {
	f := &Fleet{instance: thisInstance()}
	var p problems.List
	p.Unless(len(outboxes) > 0, "outboxes", "must not be empty")
	cfg.WindowBytes = cmp.Or(cfg.WindowBytes, 64<<20)
	problems.Positive(&p, "WindowBytes", cfg.WindowBytes)
	var owners []string
	ttl := time.Duration(0)
	for i, o := range outboxes {
		p.Unless(relayName.MatchString(o.Name), fmt.Sprintf("outboxes[%d].Name", i), nameRule, o.Name)
		p.Unless(!slices.Contains(f.names, o.Name), fmt.Sprintf("outboxes[%d].Name", i), "must be unique, is %q", o.Name)
		f.names = append(f.names, o.Name)
		m, err := f.member(i, o, cfg.WindowBytes/len(outboxes))
		if err != nil {
			p.AddAll(fmt.Errorf("outboxes[%d]: %w", i, err))
			continue
		}
		f.members, owners, ttl = append(f.members, m), append(owners, m.relay.owner), max(ttl, m.relay.cfg.LeaseTTL)
	}
	cfg.HandOverAfter = cmp.Or(cfg.HandOverAfter, max(5*time.Second, 2*ttl))
	p.Unless(cfg.HandOverAfter >= ttl, "HandOverAfter", "must be at least the longest LeaseTTL (%s), is %s", ttl, cfg.HandOverAfter)
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("outbox fleet: %w", err)
	}
	f.balance = newBalance(f.instance, cfg.HandOverAfter, ttl, owners)
	return f, nil
}

// member returns the relay of outbox i with its part in the fleet. share is its
// share of the fleet's WindowBytes.
func (f *Fleet) member(i int, o FleetOutbox, share int) (*fleetMember, error) {
	o.Relay.WindowBytes = cmp.Or(o.Relay.WindowBytes, max(share, 1<<20))
	o.Relay.BatchBytes = cmp.Or(o.Relay.BatchBytes, min(4<<20, max(o.Relay.WindowBytes, 1)))
	r, err := NewRelay(o.Log, o.Publisher, o.Relay)
	if err != nil {
		return nil, err
	}
	m := &fleetMember{fleet: f, i: i, relay: r}
	m.membership, _ = o.Log.(Membership)
	r.owner, r.lease = f.instance+"/"+o.Name, m
	return m, nil
}

// Member is the name of this instance in member lists, and the first part of its
// name as the owner of a lease.
func (f *Fleet) Member() string { return f.instance }

// Relay returns the relay of the named outbox, for its Wake and its Status, or
// nil if there is none.
func (f *Fleet) Relay(name string) *Relay {
	for i, n := range f.names {
		if n == name {
			return f.members[i].relay
		}
	}
	return nil
}

// Run serves the outboxes until ctx ends. Then each relay stops as Relay.Run
// does, and Run returns nil. An outbox that cannot be served, for which
// Relay.Run would return an error, is tried again until it can.
func (f *Fleet) Run(ctx context.Context) error {
	var relays sync.WaitGroup
	for _, m := range f.members {
		relays.Go(func() { m.run(ctx) })
	}
	relays.Wait()
	return nil
}

// refusedRetry is the pause after an outbox was refused.
const refusedRetry = 10 * time.Second

// run serves the member's outbox until ctx ends.
func (m *fleetMember) run(ctx context.Context) {
	var leaving sync.WaitGroup
	defer leaving.Wait()
	leaving.Add(1)
	stop := context.AfterFunc(ctx, func() { // while the relay drains, other instances prepare
		defer leaving.Done()
		m.leave(ctx)
	})
	defer func() {
		if stop() {
			leaving.Done()
		}
	}()
	retry := backoff{max: m.relay.cfg.RetryMax}
	for ctx.Err() == nil {
		err := m.check(ctx)
		if err == nil {
			retry.reset()
			err = m.relay.Run(ctx)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		pause := retry.pause()
		if errors.Is(err, ErrUnsafeLog) {
			pause = refusedRetry
		}
		m.relay.updateStatus(func(st *Status) { st.Err = err })
		m.relay.cfg.Hooks.Retrying(err, pause)
		sleep(ctx, pause)
	}
	m.leave(ctx) // once more: an announcement may have been under way
	m.notifyStandbys(ctx)
}

// check asks the log whether this instance could lead.
func (m *fleetMember) check(ctx context.Context) error {
	c, ok := m.relay.log.(Checker)
	if !ok {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, 2*m.relay.cfg.LeaseTTL)
	defer cancel()
	return c.Check(limited)
}
