package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/outbox"
)

var (
	_ outbox.Roster        = (*Store)(nil)
	_ outbox.Checker       = (*Store)(nil)
	_ outbox.RosterSession = (*session)(nil)
)

// Announce implements outbox.Roster: one statement.
func (s *Store) Announce(ctx context.Context, relay string, me outbox.Instance, ttl time.Duration) (outbox.Roll, error) {
	var r roll
	err := s.db.QueryRowContext(ctx, announceSQL, relay, me.ID, me.Leads, ttl.Milliseconds()).Scan(r.parts()...)
	return r.roll(), err
}

// Leave implements outbox.Roster.
func (s *Store) Leave(ctx context.Context, relay, instance string) error {
	_, err := s.db.ExecContext(ctx, leaveSQL, relay, instance)
	return err
}

// Call implements outbox.Roster: it rings, whether or not a relay sleeps.
func (s *Store) Call(ctx context.Context, _ string) error {
	_, err := s.db.ExecContext(ctx, callSQL)
	return err
}

// RenewPresent implements outbox.RosterSession: the statement of Renew with that
// of Announce in it.
func (s *session) RenewPresent(ctx context.Context, ttl time.Duration, me outbox.Instance) (outbox.Roll, error) {
	s.controlling.Lock()
	defer s.controlling.Unlock()
	if s.present == nil {
		stmt, err := s.control.PrepareContext(ctx, renewPresentSQL)
		if err != nil {
			return outbox.Roll{}, fmt.Errorf("prepare the roster: %w", err)
		}
		s.present = stmt
	}
	high := s.reading.high.Load() // before the question: reading goes on meanwhile
	var last int64
	var decided bool
	var r roll
	err := s.present.QueryRowContext(ctx, s.relay, s.epoch, ttl.Milliseconds(), me.ID, me.Leads).Scan(append([]any{&last, &decided}, r.parts()...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return outbox.Roll{}, outbox.ErrLeaseLost
	}
	if err != nil {
		return outbox.Roll{}, err
	}
	return r.roll(), renewed(last, high, decided)
}

// renewed is what a renewal has found out beside the lease.
func renewed(last, high int64, decided bool) error {
	if last < high {
		return &outbox.UnsafeError{Problems: []string{behindProblem(last, high)}}
	}
	if decided {
		return outbox.ErrReopen
	}
	return nil
}

// roll is an outbox.Roll as the statements return it.
type roll struct {
	owner     string
	left      int64 // ms
	instances pq.StringArray
	leads     pq.Int64Array
}

func (r *roll) parts() []any { return []any{&r.owner, &r.left, &r.instances, &r.leads} }

func (r *roll) roll() outbox.Roll {
	out := outbox.Roll{Owner: r.owner, Left: time.Duration(r.left) * time.Millisecond}
	for i, id := range r.instances {
		out.Others = append(out.Others, outbox.Instance{ID: id, Leads: int(r.leads[i])})
	}
	return out
}
