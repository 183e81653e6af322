package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// seat is the place of one relay in its fleet: it announces the relay on the
// roster and asks the balance on its behalf. A nil seat is that of a relay by
// itself, which tries for the lease whenever it is free and keeps what it has.
type seat struct {
	fleet  *Fleet
	i      int
	relay  *Relay
	roster Roster // nil if the log has none

	present atomic.Bool // it is on the roster, as far as is known
	gone    atomic.Bool // it has left, for good

	// Of the relay's own goroutine, or while it leads that of keepLease.
	silent error     // why the roster did not answer before the present try
	absent time.Time // until when not to ask it again
	woken  bool      // the last rest ended by a wake-up
}

// rosterRetry is how long a relay goes without a roster that does not answer
// although the log does.
const rosterRetry = 15 * time.Second

// await returns when it is this relay's turn to try for the lease, or when ctx
// ends. Without an answer of the roster it is: the try will tell more.
func (s *seat) await(ctx context.Context) {
	if s == nil || s.roster == nil {
		return
	}
	for ctx.Err() == nil && time.Now().After(s.absent) {
		roll, err := s.announce(ctx)
		if err != nil {
			s.silent = err
			return
		}
		wait := s.saw(roll)
		if wait <= 0 {
			return
		}
		s.relay.note(func(st *Status) { st.Err = nil })
		if h := s.relay.cfg.Hooks.Waiting; h != nil {
			h()
		}
		s.rest(ctx, wait)
	}
}

func (s *seat) announce(ctx context.Context) (Roll, error) {
	ttl := s.relay.cfg.LeaseTTL
	limited, cancel := context.WithTimeout(ctx, ttl)
	defer cancel()
	return s.roster.Announce(limited, s.relay.cfg.Name, s.self(), ttl)
}

// lost notes that the roster does not answer. The relay goes on without it.
func (s *seat) lost(err error) {
	s.present.Store(false)
	s.absent = time.Now().Add(rosterRetry)
	if h := s.relay.cfg.Hooks.Retrying; h != nil {
		h(fmt.Errorf("announce on the fleet's roster: %w", err), rosterRetry)
	}
}

// saw takes in a standby's roll and returns how long to wait.
func (s *seat) saw(roll Roll) time.Duration {
	s.present.Store(true)
	s.relay.note(func(st *Status) { st.Instances = 1 + len(roll.Others) })
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	now := time.Now()
	s.fleet.balance.observe(s.i, roll, now)
	return s.fleet.balance.turn(s.i, now)
}

// rest waits for d, or until the relay is woken, which counts every other time: a
// doorbell that writers ring without end must not make a busy standby.
func (s *seat) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	wake := s.relay.wake
	if s.woken {
		wake = nil
	}
	s.woken = false
	select {
	case <-ctx.Done():
	case <-wake:
		s.woken = true
	case <-t.C:
	}
}

func (s *seat) self() Instance {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	return s.fleet.balance.self()
}

// acquired notes the outcome of a try for the lease.
func (s *seat) acquired(err error) {
	if s == nil {
		return
	}
	silent := s.silent
	s.silent = nil
	if silent != nil && (err == nil || errors.Is(err, ErrLeaseHeld)) {
		s.lost(silent) // the log answers, its roster does not
	}
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	s.fleet.balance.acquired(s.i, err == nil)
}

// renew renews the session's lease, and with it the entry in the roster. It
// reports whether the outbox is to be handed over now.
func (s *seat) renew(ctx context.Context, session Session, ttl time.Duration) (yield bool, err error) {
	if s == nil {
		return false, session.Renew(ctx, ttl)
	}
	present, ok := session.(RosterSession)
	if !ok || !s.present.Load() || s.gone.Load() {
		err := session.Renew(ctx, ttl)
		if err == nil && ok {
			s.appear(ctx)
		}
		return false, err
	}
	roll, err := present.RenewPresent(ctx, ttl, s.self())
	if err != nil && !errors.Is(err, ErrReopen) {
		s.present.Store(false) // until an announcement by itself succeeds
		return false, err
	}
	return s.yields(roll, ttl), err
}

// appear tries to get a leader on the roster that was not when it began to lead.
func (s *seat) appear(ctx context.Context) {
	if s.roster == nil || s.gone.Load() || time.Now().Before(s.absent) {
		return
	}
	if _, err := s.announce(ctx); err == nil {
		s.present.Store(true)
	} else if ctx.Err() == nil {
		s.lost(err)
	}
}

// yields takes in a leader's roll and asks whether to hand over. It is not the
// time while the broker does not answer: what is in flight could not be brought
// home.
func (s *seat) yields(roll Roll, ttl time.Duration) bool {
	now := time.Now()
	var stalled bool
	s.relay.note(func(st *Status) {
		st.Instances = 1 + len(roll.Others)
		stalled = !st.Stalled.IsZero() && now.Sub(st.Stalled) > ttl
	})
	s.fleet.mu.Lock()
	s.fleet.balance.observe(s.i, roll, now)
	var to Instance
	yield := false
	if !stalled && !s.gone.Load() {
		to, yield = s.fleet.balance.yield(s.i, now)
	}
	s.fleet.mu.Unlock()
	if h := s.relay.cfg.Hooks.HandingOver; yield && h != nil {
		h(to)
	}
	return yield
}

// ended notes that a leadership is over; after a hand-over it calls the standbys.
func (s *seat) ended(ctx context.Context) {
	if s == nil {
		return
	}
	s.fleet.mu.Lock()
	handedOver := s.fleet.balance.ended(s.i, time.Now())
	s.fleet.mu.Unlock()
	if handedOver {
		s.call(ctx)
	}
}

// call wakes who waits for the lease. If it does not work they look by themselves.
func (s *seat) call(ctx context.Context) {
	if s.roster == nil {
		return
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.relay.cfg.LeaseTTL)
	defer cancel()
	_ = s.roster.Call(limited, s.relay.cfg.Name)
}

// leave takes the relay off the roster for good, so that nobody waits for it. If
// it does not work the entry runs out.
func (s *seat) leave(ctx context.Context) {
	s.gone.Store(true)
	if s.roster == nil {
		return
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.relay.cfg.LeaseTTL)
	defer cancel()
	_ = s.roster.Leave(limited, s.relay.cfg.Name, s.fleet.instance)
}
