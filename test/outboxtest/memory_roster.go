package outboxtest

import (
	"context"
	"time"

	"github.com/millrace-go/millrace/outbox"
)

// memoryInstance is an instance on the roster of a MemoryLog.
type memoryInstance struct {
	leads int
	until time.Time
}

var (
	_ outbox.Roster        = (*MemoryLog)(nil)
	_ outbox.RosterSession = (*memorySession)(nil)
)

// Announce implements outbox.Roster.
func (l *MemoryLog) Announce(_ context.Context, relay string, me outbox.Instance, ttl time.Duration) (outbox.Roll, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var roll outbox.Roll
	if r := l.relays[relay]; r != nil && r.owner != "" && l.now().Before(r.until) {
		roll.Owner, roll.Left = r.owner, r.until.Sub(l.now())
	}
	roll.Others = l.enter(relay, me, ttl)
	return roll, nil
}

// enter announces me and returns the others. Requires l.mu.
func (l *MemoryLog) enter(relay string, me outbox.Instance, ttl time.Duration) (others []outbox.Instance) {
	if l.roster[relay] == nil {
		l.roster[relay] = map[string]memoryInstance{}
	}
	for id, in := range l.roster[relay] {
		if id != me.ID && l.now().Before(in.until) {
			others = append(others, outbox.Instance{ID: id, Leads: in.leads})
		}
	}
	l.roster[relay][me.ID] = memoryInstance{me.Leads, l.now().Add(ttl)}
	return others
}

// Leave implements outbox.Roster.
func (l *MemoryLog) Leave(_ context.Context, relay, instance string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.roster[relay], instance)
	return nil
}

// Call implements outbox.Roster. Nobody listens.
func (l *MemoryLog) Call(context.Context, string) error { return nil }

// RenewPresent implements outbox.RosterSession.
func (s *memorySession) RenewPresent(ctx context.Context, ttl time.Duration, me outbox.Instance) (outbox.Roll, error) {
	if err := s.Renew(ctx, ttl); err != nil {
		return outbox.Roll{}, err
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return outbox.Roll{Others: s.log.enter(s.name, me, ttl), Owner: s.relay.owner, Left: ttl}, nil
}
