package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// fleetMember is the leasePolicy of one relay of a fleet: it keeps the relay in the
// outbox's member list and asks the balance when to lead and when to hand over.
type fleetMember struct {
	fleet      *Fleet
	i          int
	relay      *Relay
	membership Membership // nil if the log keeps no member list

	listed atomic.Bool // it is in the member list, as far as is known
	left   atomic.Bool // it has left for good

	// Used by the relay's own goroutine, or while it leads by that of keepLease.
	membershipErr error     // why Announce failed before the present attempt
	retryAt       time.Time // until when not to announce again
	woken         bool      // the last wait ended by a wake-up
}

// membershipRetry is how long a relay does without a member list that does not
// answer although the log does.
const membershipRetry = 15 * time.Second

// await implements leasePolicy. If the member list does not answer, the relay tries
// for the lease at once: the attempt shows whether the log answers.
func (m *fleetMember) await(ctx context.Context) {
	if m.membership == nil {
		return
	}
	for ctx.Err() == nil && time.Now().After(m.retryAt) {
		members, err := m.announce(ctx)
		if err != nil {
			m.membershipErr = err
			return
		}
		wait := m.observe(members)
		if wait <= 0 {
			return
		}
		m.relay.updateStatus(func(st *Status) { st.Err = nil })
		m.relay.cfg.Hooks.Waiting()
		m.wait(ctx, wait)
	}
}

func (m *fleetMember) announce(ctx context.Context) (Members, error) {
	ttl := m.relay.cfg.LeaseTTL
	limited, cancel := context.WithTimeout(ctx, ttl)
	defer cancel()
	return m.membership.Announce(limited, m.relay.cfg.Name, m.self(), ttl)
}

// lost records that the member list does not answer. The relay goes on without it.
func (m *fleetMember) lost(err error) {
	m.listed.Store(false)
	m.retryAt = time.Now().Add(membershipRetry)
	m.relay.cfg.Hooks.Retrying(fmt.Errorf("announce to the fleet: %w", err), membershipRetry)
}

// observe gives the balance what a standby has seen and returns how long to wait.
func (m *fleetMember) observe(members Members) time.Duration {
	m.listed.Store(true)
	m.relay.updateStatus(func(st *Status) { st.Members = 1 + len(members.Others) })
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	now := time.Now()
	m.fleet.balance.observe(m.i, members, now)
	return m.fleet.balance.standbyWait(m.i, now)
}

// wait waits for d, or until the relay is woken. Only every other wake-up counts:
// writers that notify without pause must not keep a standby busy.
func (m *fleetMember) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	wake := m.relay.wake
	if m.woken {
		wake = nil
	}
	m.woken = false
	select {
	case <-ctx.Done():
	case <-wake:
		m.woken = true
	case <-t.C:
	}
}

func (m *fleetMember) self() Member {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	return m.fleet.balance.self()
}

// acquired implements leasePolicy.
func (m *fleetMember) acquired(err error) {
	silent := m.membershipErr
	m.membershipErr = nil
	if silent != nil && (err == nil || errors.Is(err, ErrLeaseHeld)) {
		m.lost(silent) // the log answers, its member list does not
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.fleet.balance.acquired(m.i, err == nil)
}

// renew implements leasePolicy. It renews the entry in the member list together
// with the lease.
func (m *fleetMember) renew(ctx context.Context, session Session, ttl time.Duration) (handOver bool, err error) {
	present, ok := session.(MemberSession)
	if !ok || !m.listed.Load() || m.left.Load() {
		err := session.Renew(ctx, ttl)
		if err == nil && ok {
			m.enlist(ctx)
		}
		return false, err
	}
	members, err := present.RenewMember(ctx, ttl, m.self())
	if err != nil && !errors.Is(err, ErrReopen) {
		m.listed.Store(false) // until a separate announcement succeeds
		return false, err
	}
	return m.shouldHandOver(members, ttl), err
}

// enlist puts a leader into the member list that was not in it when it began to lead.
func (m *fleetMember) enlist(ctx context.Context) {
	if m.membership == nil || m.left.Load() || time.Now().Before(m.retryAt) {
		return
	}
	if _, err := m.announce(ctx); err == nil {
		m.listed.Store(true)
	} else if ctx.Err() == nil {
		m.lost(err)
	}
}

// shouldHandOver gives the balance what a leader has seen and asks whether to hand
// over. It does not while the broker does not answer: what is in flight could not be
// acknowledged first.
func (m *fleetMember) shouldHandOver(members Members, ttl time.Duration) bool {
	now := time.Now()
	var stalled bool
	m.relay.updateStatus(func(st *Status) {
		st.Members = 1 + len(members.Others)
		stalled = !st.Stalled.IsZero() && now.Sub(st.Stalled) > ttl
	})
	m.fleet.mu.Lock()
	m.fleet.balance.observe(m.i, members, now)
	var to Member
	yes := false
	if !stalled && !m.left.Load() {
		to, yes = m.fleet.balance.handOver(m.i, now)
	}
	m.fleet.mu.Unlock()
	if yes {
		m.relay.cfg.Hooks.HandingOver(to)
	}
	return yes
}

// ended implements leasePolicy. After a hand-over it notifies the standbys.
func (m *fleetMember) ended(ctx context.Context) {
	m.fleet.mu.Lock()
	handedOver := m.fleet.balance.ended(m.i, time.Now())
	m.fleet.mu.Unlock()
	if handedOver {
		m.notifyStandbys(ctx)
	}
}

// notifyStandbys wakes the instances that wait for the lease. If it fails, they find
// the free lease at their next poll.
func (m *fleetMember) notifyStandbys(ctx context.Context) {
	if m.membership == nil {
		return
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.relay.cfg.LeaseTTL)
	defer cancel()
	_ = m.membership.NotifyStandbys(limited, m.relay.cfg.Name)
}

// leave removes the relay from the member list for good, so that nobody waits for
// it. If it fails, the entry expires.
func (m *fleetMember) leave(ctx context.Context) {
	m.left.Store(true)
	if m.membership == nil {
		return
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.relay.cfg.LeaseTTL)
	defer cancel()
	_ = m.membership.Leave(limited, m.relay.cfg.Name, m.fleet.instance)
}
