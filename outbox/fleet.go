package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// FleetConfig configures a Fleet. The zero value is usable.
type FleetConfig struct {
	// Settle is how long another instance must have led at least two outboxes
	// fewer before this one hands one over. At least the longest LeaseTTL.
	// Default 5 s, or twice the longest LeaseTTL if that is more.
	Settle time.Duration
	// WindowBytes is about the most payload bytes that all the relays of the
	// fleet together hold in memory. Each has an even share, which its own
	// WindowBytes overrides, and 1 MiB at least. Default 64 MiB.
	WindowBytes int
}

// FleetOutbox is one of the outboxes that a fleet serves.
type FleetOutbox struct {
	// Name is that of the outbox in statuses and errors, and part of the owner's
	// name in its lease. 1 to 64 characters of [A-Za-z0-9._-].
	Name string
	// Log is the outbox. If it is a Roster, the fleet's instances spread.
	Log Log
	// Publisher takes its messages. It is not to be shared by relays: one that
	// loses its lead gives up everything under way in its publisher.
	Publisher message.Publisher
	// Relay configures its relay. Relays of one name on one outbox stand in for
	// each other, whatever the outbox is called here.
	Relay RelayConfig
}

// Fleet serves many outboxes in one process, each by a relay with a cursor and a
// lease of its own. The instances of a fleet, each run with the same outboxes,
// stand in for each other outbox by outbox, and spread them: a new instance is
// handed its share gracefully, without duplicates, and none leads more than one
// outbox more than another. There is no coordinator: instances meet on a roster
// beside each outbox. What befalls one outbox does not stop the others.
type Fleet struct {
	instance string
	seats    []*seat
	names    []string

	mu      sync.Mutex
	balance *balance
}

// NewFleet returns a fleet. Publishers stay the caller's to close after Run has
// returned. It starts nothing.
func NewFleet(outboxes []FleetOutbox, cfg FleetConfig) (*Fleet, error) {
	f := &Fleet{instance: thisInstance()}
	var errs []error
	if len(outboxes) == 0 {
		errs = append(errs, errors.New("outboxes: there are none"))
	}
	if cfg.WindowBytes < 0 {
		errs = append(errs, errors.New("WindowBytes: must be positive"))
	}
	def(&cfg.WindowBytes, 64<<20)
	known := map[string]bool{}
	ttl := time.Duration(0)
	var owners []string
	for i, o := range outboxes {
		if !relayName.MatchString(o.Name) || known[o.Name] {
			errs = append(errs, fmt.Errorf("outboxes[%d]: Name: %q must be unique and 1 to 64 characters of [A-Za-z0-9._-]", i, o.Name))
		}
		known[o.Name] = true
		def(&o.Relay.WindowBytes, max(cfg.WindowBytes/len(outboxes), 1<<20))
		def(&o.Relay.BatchBytes, min(4<<20, max(o.Relay.WindowBytes, 1)))
		r, err := NewRelay(o.Log, o.Publisher, o.Relay)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o.Name, err))
			continue
		}
		r.owner = f.instance + "/" + o.Name
		s := &seat{fleet: f, i: len(f.seats), relay: r}
		s.roster, _ = o.Log.(Roster)
		r.seat = s
		f.seats, f.names, owners, ttl = append(f.seats, s), append(f.names, o.Name), append(owners, r.owner), max(ttl, r.cfg.LeaseTTL)
	}
	def(&cfg.Settle, max(5*time.Second, 2*ttl))
	if cfg.Settle < ttl {
		errs = append(errs, fmt.Errorf("Settle: %s is less than the longest LeaseTTL %s", cfg.Settle, ttl))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("outbox fleet: %w", errors.Join(errs...))
	}
	f.balance = newBalance(f.instance, cfg.Settle, ttl, owners)
	return f, nil
}

// Instance is the name of this instance on the roster, and the first part of its
// name as the owner of a lease.
func (f *Fleet) Instance() string { return f.instance }

// Relay returns the relay of the named outbox, for its Wake and its Status, or
// nil if there is none.
func (f *Fleet) Relay(name string) *Relay {
	for i, n := range f.names {
		if n == name {
			return f.seats[i].relay
		}
	}
	return nil
}

// Run serves the outboxes until ctx ends. Then each relay stops as Relay.Run
// does, and Run returns nil. An outbox that cannot be served, for which
// Relay.Run would return an error, is tried again until it can.
func (f *Fleet) Run(ctx context.Context) error {
	var relays sync.WaitGroup
	for _, s := range f.seats {
		relays.Go(func() { s.run(ctx) })
	}
	relays.Wait()
	return nil
}

// refusedRetry is the pause after an outbox was refused.
const refusedRetry = 10 * time.Second

// run serves the seat's outbox until ctx ends.
func (s *seat) run(ctx context.Context) {
	var leaving sync.WaitGroup
	defer leaving.Wait()
	leaving.Add(1)
	stop := context.AfterFunc(ctx, func() { // while the relay drains, others get ready
		defer leaving.Done()
		s.leave(ctx)
	})
	defer func() {
		if stop() {
			leaving.Done()
		}
	}()
	retry := backoff{max: s.relay.cfg.RetryMax}
	for ctx.Err() == nil {
		err := s.check(ctx)
		if err == nil {
			retry.reset()
			err = s.relay.Run(ctx)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		pause := retry.pause()
		if errors.Is(err, ErrUnsafeLog) {
			pause = refusedRetry
		}
		s.relay.note(func(st *Status) { st.Err = err })
		if h := s.relay.cfg.Hooks.Retrying; h != nil {
			h(err, pause)
		}
		sleep(ctx, pause)
	}
	s.leave(ctx) // once more: an announcement may have been under way
	s.call(ctx)
}

// check asks the log whether this instance could lead.
func (s *seat) check(ctx context.Context) error {
	c, ok := s.relay.log.(Checker)
	if !ok {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, 2*s.relay.cfg.LeaseTTL)
	defer cancel()
	return c.Check(limited)
}
