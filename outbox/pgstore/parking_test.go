package pgstore_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
)

// picky takes what it is not told to refuse, and remembers the order.
type picky struct {
	mu     sync.Mutex
	refuse map[string]bool
	took   []string
}

func (p *picky) Publish(_ string, msgs ...*message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range msgs {
		if p.refuse[string(m.Payload)] {
			return outbox.Unpublishable("message too large", nil)
		}
		p.took = append(p.took, string(m.Payload))
	}
	return nil
}

func (p *picky) Close() error { return nil }

func (p *picky) accept(payload string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.refuse, payload)
}

// all returns what was taken, key by key.
func (p *picky) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := slices.Clone(p.took)
	slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(a[0], b[0]) })
	return all
}

// parkingLot is a store with a running relay whose broker refuses k1 and k3.
func parkingLot(t *testing.T) (subject, *picky) {
	s := newSubject(t, false)
	pub := &picky{refuse: map[string]bool{"k1": true, "k3": true}}
	for i := range 5 {
		s.write(t, outbox.Message{Topic: "t", Key: "k", Payload: fmt.Append(nil, "k", i)})
	}
	s.write(t, outbox.Message{Topic: "t", Key: "l", Payload: []byte("l0")})
	relay, err := outbox.NewRelay(s.Store, pub, outbox.RelayConfig{LeaseTTL: time.Second})
	require.NoError(t, err)
	background(t, func(ctx context.Context) error { return relay.Run(ctx) })
	s.await(t, "parked", 4)
	return s, pub
}

// await waits until n messages of the relay are in state.
func (s subject) await(t *testing.T, state string, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		all, err := s.Parked(t.Context(), pgstore.ParkedFilter{Relay: "relay", Done: true})
		got := 0
		for _, p := range all {
			if p.State == state {
				got++
			}
		}
		return err == nil && got == n
	}, 2*time.Minute, 10*time.Millisecond)
}

func (s subject) decide(t *testing.T, action pgstore.Action, position int64) error {
	_, err := s.Decide(t.Context(), pgstore.Decision{
		Relay: "relay", Key: outbox.ParkedKey{Topic: "t", Key: "k"}, Action: action, Position: position, Actor: "test", Note: "why",
	})
	return err
}

func TestParked_ShowsCulpritAndFollowers(t *testing.T) {
	t.Parallel()
	s, pub := parkingLot(t)
	all, err := s.Parked(t.Context(), pgstore.ParkedFilter{Relay: "relay", Topic: "t", Key: "k"})
	require.NoError(t, err)
	require.Len(t, all, 4)
	require.True(t, all[0].Culprit)
	require.Equal(t, "message too large", all[0].Reason)
	require.Equal(t, 2, all[0].Bytes)
	for _, p := range all[1:] {
		require.False(t, p.Culprit)
		require.Equal(t, outbox.ReasonBehind, p.Reason)
	}
	require.Equal(t, []string{"k0", "l0"}, pub.all(), "the other key flows")

	one, err := s.Parked(t.Context(), pgstore.ParkedFilter{Relay: "relay", Position: all[1].Position})
	require.NoError(t, err)
	require.Equal(t, all[1:2], one)
	entry, err := s.Entry(t.Context(), all[1].Position)
	require.NoError(t, err)
	require.Equal(t, "k2", string(entry.Payload))
	_, err = s.Entry(t.Context(), 1000)
	require.ErrorIs(t, err, pgstore.ErrNoEntry)
}

func TestParked_RedriveKeepsTheOrderAndParksAgainWhatIsStillBad(t *testing.T) {
	t.Parallel()
	s, pub := parkingLot(t)
	pub.accept("k1")
	s.write(t, outbox.Message{Topic: "t", Key: "k", Payload: []byte("k5")}) // waits behind, too
	s.await(t, "parked", 5)
	require.NoError(t, s.decide(t, pgstore.Redrive, 0))
	s.await(t, "redriven", 2) // k1 and k2; k3 is refused again and k4, k5 wait behind it
	s.await(t, "parked", 3)
	pub.accept("k3")
	require.NoError(t, s.decide(t, pgstore.Redrive, 0))
	s.await(t, "redriven", 5)
	s.write(t, outbox.Message{Topic: "t", Key: "k", Payload: []byte("k6")})
	require.Eventually(t, func() bool { return len(pub.all()) == 8 }, 2*time.Minute, 10*time.Millisecond)
	require.Equal(t, []string{"k0", "k1", "k2", "k3", "k4", "k5", "k6", "l0"}, pub.all())
	require.Equal(t, 2, count(t, s.db, `SELECT count(*) FROM outbox_audit WHERE actor = 'test' AND action = 'redrive' AND note = 'why'`))
}

func TestParked_SkipGivesUpOneAndFreesTheOthers(t *testing.T) {
	t.Parallel()
	s, pub := parkingLot(t)
	pub.accept("k3")
	require.NoError(t, s.decide(t, pgstore.Skip, 2))
	s.await(t, "skipped", 1)
	require.Eventually(t, func() bool { return len(pub.all()) == 5 }, 2*time.Minute, 10*time.Millisecond)
	require.Equal(t, []string{"k0", "k2", "k3", "k4", "l0"}, pub.all())
}

func TestParked_DiscardGivesUpTheQueueAndLaterMessagesFlow(t *testing.T) {
	t.Parallel()
	s, pub := parkingLot(t)
	require.NoError(t, s.decide(t, pgstore.Discard, 0))
	s.await(t, "discarded", 4)
	s.write(t, outbox.Message{Topic: "t", Key: "k", Payload: []byte("k5")})
	require.Eventually(t, func() bool { return len(pub.all()) == 3 }, 2*time.Minute, 10*time.Millisecond)
	require.Equal(t, []string{"k0", "k5", "l0"}, pub.all())
}

// vetting is picky that can also tell beforehand.
type vetting struct{ *picky }

func (v vetting) Vet(_ context.Context, e *outbox.Entry) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.refuse[string(e.Payload)] {
		return outbox.Unpublishable("unknown topic", nil)
	}
	return nil
}

func TestParked_GoesItsWayByItselfOnceTheCauseIsMended(t *testing.T) {
	t.Parallel()
	s := newSubject(t, false)
	pub := vetting{&picky{refuse: map[string]bool{"k0": true}}}
	for i := range 3 {
		s.write(t, outbox.Message{Topic: "t", Key: "k", Payload: fmt.Append(nil, "k", i)})
	}
	relay, err := outbox.NewRelay(s.Store, pub, outbox.RelayConfig{LeaseTTL: time.Second})
	require.NoError(t, err)
	background(t, func(ctx context.Context) error { return relay.Run(ctx) })
	s.await(t, "parked", 3)
	require.Eventually(t, func() bool { // it was looked at again, and refused again
		return count(t, s.db, `SELECT max(attempts) FROM outbox_parked`) > 1
	}, 2*time.Minute, 100*time.Millisecond)
	pub.accept("k0")
	_, err = s.db.ExecContext(t.Context(), `UPDATE outbox_parked SET last_at = last_at - interval '1 hour'`)
	require.NoError(t, err)
	s.await(t, "redriven", 3)
	require.Eventually(t, func() bool { return len(pub.all()) == 3 }, 2*time.Minute, 10*time.Millisecond)
	require.Equal(t, []string{"k0", "k1", "k2"}, pub.all())
	require.Equal(t, 1, count(t, s.db, `SELECT count(*) FROM outbox_audit WHERE actor = 'relay'`))
}

func TestDecide_RefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	s := newSubject(t, false)
	require.ErrorIs(t, s.decide(t, pgstore.Redrive, 0), pgstore.ErrNotParked)
	require.ErrorIs(t, s.decide(t, pgstore.Skip, 7), pgstore.ErrNotParked)
	_, err := s.Decide(t.Context(), pgstore.Decision{Action: "burn", Position: 3})
	for _, field := range []string{"Relay", "Key", "Action", "Position", "Actor"} {
		require.ErrorContains(t, err, field+":")
	}
}
