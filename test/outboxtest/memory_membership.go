package outboxtest

import (
	"context"
	"time"

	"github.com/millrace-go/millrace/outbox"
)

// memoryInstance is an entry in the member list of a MemoryLog.
type memoryInstance struct {
	leads int
	until time.Time
}

var (
	_ outbox.Membership    = (*MemoryLog)(nil)
	_ outbox.MemberSession = (*memorySession)(nil)
)

// Announce implements outbox.Membership.
func (l *MemoryLog) Announce(_ context.Context, relay string, me outbox.Member, ttl time.Duration) (outbox.Members, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var members outbox.Members
	if r := l.relays[relay]; r != nil && r.owner != "" && l.now().Before(r.until) {
		members.Owner, members.Left = r.owner, r.until.Sub(l.now())
	}
	members.Others = l.enter(relay, me, ttl)
	return members, nil
}

// enter announces me and returns the others. Requires l.mu.
func (l *MemoryLog) enter(relay string, me outbox.Member, ttl time.Duration) (others []outbox.Member) {
	if l.members[relay] == nil {
		l.members[relay] = map[string]memoryInstance{}
	}
	for id, in := range l.members[relay] {
		if id != me.ID && l.now().Before(in.until) {
			others = append(others, outbox.Member{ID: id, Leads: in.leads})
		}
	}
	l.members[relay][me.ID] = memoryInstance{me.Leads, l.now().Add(ttl)}
	return others
}

// Leave implements outbox.Membership.
func (l *MemoryLog) Leave(_ context.Context, relay, instance string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.members[relay], instance)
	return nil
}

// NotifyStandbys implements outbox.Membership. Nobody listens.
func (l *MemoryLog) NotifyStandbys(context.Context, string) error { return nil }

// RenewMember implements outbox.MemberSession.
func (s *memorySession) RenewMember(ctx context.Context, ttl time.Duration, me outbox.Member) (outbox.Members, error) {
	if err := s.Renew(ctx, ttl); err != nil {
		return outbox.Members{}, err
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return outbox.Members{Others: s.log.enter(s.name, me, ttl), Owner: s.relay.owner, Left: ttl}, nil
}
