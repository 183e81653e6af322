package outbox_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/outboxtest"
)

func TestRelay_DeliversInCommitOrderPerKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, b := outboxtest.NewMemoryLog(nil), &broker{}
		write(t, log, "a", numbered("a", 300)...)
		_, stop := start(t, log, b, outbox.RelayConfig{BatchRows: 7, WindowRows: 50})
		write(t, log, "b", numbered("b", 300)...)
		time.Sleep(10 * time.Second)
		stop()
		require.Equal(t, numbered("a", 300), b.payloads("a"))
		require.Equal(t, numbered("b", 300), b.payloads("b"))
		require.Equal(t, outbox.Cursor{Position: 600}, log.Cursor("relay"))
	})
}

func TestRelay_GracefulStopsLeaveNoDuplicates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, b := outboxtest.NewMemoryLog(nil), &broker{}
		write(t, log, "a", numbered("a", 2000)...)
		for b.count() < 2000 {
			hold := make(chan struct{})
			b.hold = hold
			_, stop := start(t, log, b, outbox.RelayConfig{BatchRows: 10, WindowRows: 100})
			time.Sleep(time.Second) // the window is full, nothing acknowledged
			go func() { time.Sleep(time.Second); close(hold) }()
			stop() // waits for the acknowledgements
		}
		require.Equal(t, numbered("a", 2000), b.payloads(""))
	})
}

func TestRelay_DrainTimeoutLeavesExactlyTheUnacknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, b := outboxtest.NewMemoryLog(nil), &broker{hold: make(chan struct{})}
		write(t, log, "a", numbered("a", 30)...)
		_, stop := start(t, log, b, outbox.RelayConfig{BatchRows: 10, WindowRows: 100, DrainTimeout: 3 * time.Second})
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		require.Equal(t, 3*time.Second, time.Since(began))
		require.Zero(t, b.count())
		b.hold = nil
		_, stop = start(t, log, b, outbox.RelayConfig{})
		time.Sleep(time.Second)
		stop()
		require.Equal(t, numbered("a", 30), b.payloads(""))
	})
}

func TestRelay_ReadsNoFurtherThanItsWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, b := outboxtest.NewMemoryLog(nil), &broker{hold: make(chan struct{})}
		write(t, log, "a", numbered("a", 500)...)
		relay, stop := start(t, log, b, outbox.RelayConfig{BatchRows: 10, WindowRows: 100})
		time.Sleep(time.Minute)
		require.Equal(t, 90, relay.Status().InFlight, "as of the read before the last")
		require.False(t, relay.Status().Ready(time.Now(), 10*time.Second), "nothing moves although there is something to move")
		close(b.hold)
		time.Sleep(time.Second)
		require.True(t, relay.Status().Ready(time.Now(), 10*time.Second))
		stop()
		require.Len(t, b.payloads(""), 500)
	})
}

func TestRelay_CrashRepeatsAtMostTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, b := outboxtest.NewMemoryLog(nil), &broker{}
		write(t, log, "a", numbered("a", 300)...)
		crashes := 0
		lossy := &faultyLog{Log: log, save: func() error { // the acknowledgement arrives, the cursor does not
			if crashes++; crashes%3 == 0 {
				return errors.New("connection lost")
			}
			return nil
		}}
		_, stop := start(t, lossy, b, outbox.RelayConfig{BatchRows: 10, WindowRows: 40})
		time.Sleep(10 * time.Minute)
		stop()
		seen, first, duplicates := map[string]bool{}, []string{}, 0
		for _, p := range b.payloads("") {
			if seen[p] {
				duplicates++
				continue
			}
			seen[p] = true
			first = append(first, p)
		}
		require.Equal(t, numbered("a", 300), first, "first deliveries are in order")
		require.Positive(t, duplicates, "the fault was real")
		require.LessOrEqual(t, duplicates, crashes/3*40)
	})
}

func TestRelay_PublishErrorResendsOnlyTheUnacknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, b := outboxtest.NewMemoryLog(nil), &broker{refuse: map[string]error{"a20": errors.New("broker away"), "a21": errors.New("broker away")}}
		write(t, log, "a", numbered("a", 22)...)
		var retries []error
		_, stop := start(t, log, b, outbox.RelayConfig{Hooks: outbox.Hooks{Retrying: func(err error, _ time.Duration) { retries = append(retries, err) }}})
		time.Sleep(time.Second)
		b.mu.Lock()
		b.refuse = nil
		b.mu.Unlock()
		time.Sleep(10 * time.Second)
		stop()
		require.NotEmpty(t, retries)
		require.ErrorContains(t, retries[0], "broker away")
		require.Equal(t, numbered("a", 22), b.payloads(""))
	})
}

func TestRelay_ParksTheUnpublishableAndItsFollowers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, b := outboxtest.NewMemoryLog(nil), &broker{vet: map[string]bool{"a1": true}, refuse: map[string]error{"c1": outbox.Unpublishable("not authorized", nil)}}
		write(t, log, "a", numbered("a", 3)...)
		write(t, log, "b", numbered("b", 3)...)
		write(t, log, "c", "c1")
		var parked []outbox.Parked
		_, stop := start(t, log, b, outbox.RelayConfig{BatchRows: 2, Hooks: outbox.Hooks{Parked: func(p outbox.Parked) { parked = append(parked, p) }}})
		time.Sleep(time.Second)
		write(t, log, "a", "a3")
		write(t, log, "c", "c2")
		time.Sleep(time.Second)
		stop()
		want := []outbox.Parked{
			{Position: 2, ParkedKey: outbox.ParkedKey{Topic: "t", Key: "a"}, Reason: "message too large"},
			{Position: 3, ParkedKey: outbox.ParkedKey{Topic: "t", Key: "a"}, Reason: outbox.ReasonBehind},
			{Position: 7, ParkedKey: outbox.ParkedKey{Topic: "t", Key: "c"}, Reason: "not authorized"},
			{Position: 8, ParkedKey: outbox.ParkedKey{Topic: "t", Key: "a"}, Reason: outbox.ReasonBehind},
			{Position: 9, ParkedKey: outbox.ParkedKey{Topic: "t", Key: "c"}, Reason: outbox.ReasonBehind},
		}
		require.Equal(t, want, log.Parked("relay"))
		require.Equal(t, want, parked)
		require.Equal(t, []string{"a0", "b0", "b1", "b2"}, b.payloads(""))

		b.vet, b.refuse = nil, nil
		write(t, log, "a", "a4")
		_, stop = start(t, log, b, outbox.RelayConfig{})
		time.Sleep(time.Second)
		stop()
		require.Len(t, log.Parked("relay"), 6, "a new leader keeps the followers behind")
	})
}

func TestRelay_StandbyTakesOverWhenTheLeaseRunsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, first, second := outboxtest.NewMemoryLog(nil), &broker{}, &broker{}
		away := errors.New("no route to host")
		tries := 0
		frozen := &faultyLog{Log: log, renew: func() error { return away }, release: func() error { return away }, acquire: func() error {
			if tries++; tries > 1 {
				return away
			}
			return nil
		}}
		_, stopFirst := start(t, frozen, first, outbox.RelayConfig{})
		synctest.Wait()
		relay, stopSecond := start(t, log, second, outbox.RelayConfig{})
		time.Sleep(3 * time.Second)
		require.True(t, relay.Status().Leading)
		write(t, log, "a", "a0")
		time.Sleep(time.Second)
		stopSecond()
		stopFirst()
		require.Equal(t, []string{"a0"}, second.payloads(""))
	})
}

// A leader that stops frees its lease: the standby takes it within a second, however
// long the lease is.
func TestRelay_StandbyTakesAFreedLeaseWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := outboxtest.NewMemoryLog(nil)
		_, stopFirst := start(t, log, &broker{}, outbox.RelayConfig{LeaseTTL: time.Hour})
		synctest.Wait()
		standby, stopSecond := start(t, log, &broker{}, outbox.RelayConfig{LeaseTTL: time.Hour})
		time.Sleep(5 * time.Second)
		require.False(t, standby.Status().Leading)
		stopFirst()
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, standby.Status().Leading)
		stopSecond()
	})
}

func TestRelay_LostLeaseStopsPublishing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, b := outboxtest.NewMemoryLog(nil), &broker{hold: make(chan struct{})}
		write(t, log, "a", "a0")
		var stopped error
		stuck := &faultyLog{Log: log, renew: func() error { time.Sleep(time.Hour); return nil }}
		_, stop := start(t, stuck, b, outbox.RelayConfig{Hooks: outbox.Hooks{Stopped: func(_ int64, err error) { stopped = err }}})
		time.Sleep(2 * time.Second)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.ErrorIs(t, stopped, outbox.ErrLeaseLost)
		close(b.hold)
		stop()
	})
}

func TestRelay_RefusesAnUnsafeLog(t *testing.T) {
	t.Parallel()
	unsafe := &faultyLog{acquire: func() error { return &outbox.UnsafeError{Problems: []string{"the server is a standby"}} }}
	relay, err := outbox.NewRelay(unsafe, &broker{}, outbox.RelayConfig{})
	require.NoError(t, err)
	require.ErrorIs(t, relay.Run(t.Context()), outbox.ErrUnsafeLog)
}

func TestRelay_PlainPublishersKeepOrderOverErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, p := outboxtest.NewMemoryLog(nil), &plainPublisher{}
		for _, key := range []string{"a", "b", "c"} {
			write(t, log, key, numbered(key, 50)...)
		}
		_, stop := start(t, log, p, outbox.RelayConfig{Lanes: 4})
		time.Sleep(10 * time.Minute)
		stop()
		for _, key := range []string{"a", "b", "c"} {
			require.Equal(t, numbered(key, 50), p.got[key])
		}
	})
}

func TestNewRelay_NamesEveryBadField(t *testing.T) {
	t.Parallel()
	_, err := outbox.NewRelay(nil, nil, outbox.RelayConfig{Name: "a b", BatchRows: -1, WindowRows: -2, PollMin: time.Second, PollMax: time.Millisecond, LeaseTTL: 1})
	for _, field := range []string{"log", "publisher", "Name", "BatchRows", "WindowRows", "PollMax", "LeaseTTL"} {
		require.ErrorContains(t, err, field+":")
	}
}

// plainPublisher takes one message at a time and fails every third call.
type plainPublisher struct {
	mu    sync.Mutex
	calls int
	got   map[string][]string
}

func (p *plainPublisher) Publish(_ string, msgs ...*message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls++; p.calls%3 == 0 {
		return errors.New("try again")
	}
	if p.got == nil {
		p.got = map[string][]string{}
	}
	for _, m := range msgs {
		key := m.Metadata.Get(outbox.MetadataKey)
		p.got[key] = append(p.got[key], string(m.Payload))
	}
	return nil
}

func (p *plainPublisher) Close() error { return nil }

// faultyLog breaks single steps of a log.
type faultyLog struct {
	outbox.Log
	acquire, save, renew, release func() error
}

func (l *faultyLog) Acquire(ctx context.Context, relay, owner string, ttl time.Duration) (outbox.Session, error) {
	if l.acquire != nil {
		if err := l.acquire(); err != nil {
			return nil, err
		}
	}
	s, err := l.Log.Acquire(ctx, relay, owner, ttl)
	if err != nil {
		return nil, err
	}
	return faultySession{s, l}, nil
}

type faultySession struct {
	outbox.Session
	log *faultyLog
}

func (s faultySession) Save(ctx context.Context, cp outbox.Checkpoint) error {
	if s.log.save != nil {
		if err := s.log.save(); err != nil {
			return err
		}
	}
	return s.Session.Save(ctx, cp)
}

func (s faultySession) Renew(ctx context.Context, ttl time.Duration) error {
	if s.log.renew != nil {
		if err := s.log.renew(); err != nil {
			return err
		}
	}
	return s.Session.Renew(ctx, ttl)
}

func (s faultySession) Release(ctx context.Context) error {
	if s.log.release != nil {
		if err := s.log.release(); err != nil {
			return err
		}
	}
	return s.Session.Release(ctx)
}
