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
	_ outbox.Membership    = (*Store)(nil)
	_ outbox.Checker       = (*Store)(nil)
	_ outbox.MemberSession = (*session)(nil)
)

// Announce implements outbox.Membership: one statement.
func (s *Store) Announce(ctx context.Context, relay string, me outbox.Member, ttl time.Duration) (outbox.Members, error) {
	var rows memberRows
	err := s.db.QueryRowContext(ctx, announceSQL, relay, me.ID, me.Leads, ttl.Milliseconds()).Scan(rows.parts()...)
	return rows.members(), err
}

// Leave implements outbox.Membership.
func (s *Store) Leave(ctx context.Context, relay, instance string) error {
	_, err := s.db.ExecContext(ctx, leaveSQL, relay, instance)
	return err
}

// NotifyStandbys implements outbox.Membership: it notifies whether or not a relay is
// armed.
func (s *Store) NotifyStandbys(ctx context.Context, _ string) error {
	_, err := s.db.ExecContext(ctx, notifyStandbysSQL)
	return err
}

// RenewMember implements outbox.MemberSession: the statement of Renew with that of
// Announce in it.
func (s *session) RenewMember(ctx context.Context, ttl time.Duration, me outbox.Member) (outbox.Members, error) {
	s.controlling.Lock()
	defer s.controlling.Unlock()
	if s.renewMember == nil {
		stmt, err := s.control.PrepareContext(ctx, renewMemberSQL)
		if err != nil {
			return outbox.Members{}, fmt.Errorf("prepare the member list: %w", err)
		}
		s.renewMember = stmt
	}
	high := s.reading.high.Load() // before the question: reading goes on meanwhile
	var last int64
	var decided bool
	var rows memberRows
	err := s.renewMember.QueryRowContext(ctx, s.relay, s.epoch, ttl.Milliseconds(), me.ID, me.Leads).Scan(append([]any{&last, &decided}, rows.parts()...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return outbox.Members{}, outbox.ErrLeaseLost
	}
	if err != nil {
		return outbox.Members{}, err
	}
	return rows.members(), renewed(last, high, decided)
}

// renewed returns what a renewal has found out besides the lease.
func renewed(last, high int64, decided bool) error {
	if last < high {
		return &outbox.UnsafeError{Problems: []string{behindProblem(last, high)}}
	}
	if decided {
		return outbox.ErrReopen
	}
	return nil
}

// memberRows is an outbox.Members as the statements return it.
type memberRows struct {
	owner     string
	left      int64 // ms
	instances pq.StringArray
	leads     pq.Int64Array
}

func (r *memberRows) parts() []any { return []any{&r.owner, &r.left, &r.instances, &r.leads} }

func (r *memberRows) members() outbox.Members {
	out := outbox.Members{Owner: r.owner, Left: time.Duration(r.left) * time.Millisecond}
	for i, id := range r.instances {
		out.Others = append(out.Others, outbox.Member{ID: id, Leads: int(r.leads[i])})
	}
	return out
}
