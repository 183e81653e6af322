package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// shore is a set of outboxes with a broker behind each, and fleets between.
type shore struct {
	names   []string
	logs    map[string]*outboxtest.MemoryLog
	brokers map[string]*broker
	wrap    func(name string, l outbox.Log) outbox.Log // nil leaves the logs as they are
	moves   atomic.Int32
}

func newShore(outboxes int) *shore {
	s := &shore{logs: map[string]*outboxtest.MemoryLog{}, brokers: map[string]*broker{}}
	for i := range outboxes {
		name := fmt.Sprint("o", i)
		s.names = append(s.names, name)
		s.logs[name], s.brokers[name] = outboxtest.NewMemoryLog(nil), &broker{}
	}
	return s
}

// fleet starts an instance; stop stops it and waits for it.
func (s *shore) fleet(t *testing.T) (f *outbox.Fleet, stop func()) {
	t.Helper()
	var outboxes []outbox.FleetOutbox
	for _, name := range s.names {
		var log outbox.Log = s.logs[name]
		if s.wrap != nil {
			log = s.wrap(name, log)
		}
		outboxes = append(outboxes, outbox.FleetOutbox{Name: name, Log: log, Publisher: s.brokers[name], Relay: outbox.RelayConfig{
			Hooks: outbox.Hooks{HandingOver: func(outbox.Member) { s.moves.Add(1) }},
		}})
	}
	f, err := outbox.NewFleet(outboxes, outbox.FleetConfig{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return f, stop
}

// leads counts what an instance leads.
func (s *shore) leads(f *outbox.Fleet) (n int) {
	for _, name := range s.names {
		if f.Relay(name).Status().Leading {
			n++
		}
	}
	return n
}

// write commits n messages to each outbox, one every 100 ms.
func (s *shore) write(t *testing.T, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		for _, name := range s.names {
			write(t, s.logs[name], "k", fmt.Sprint("k", i))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestFleet_SpreadsItsOutboxesWithoutLossOrDuplicate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShore(4)
		first, stopFirst := s.fleet(t)
		s.write(t, 0, 50)
		require.Equal(t, 4, s.leads(first))
		require.Equal(t, 1, first.Relay("o1").Status().Members)
		second, stopSecond := s.fleet(t)
		s.write(t, 50, 300)
		require.Equal(t, []int{2, 2}, []int{s.leads(first), s.leads(second)})
		require.EqualValues(t, 2, s.moves.Load(), "no more moves than it takes")
		require.Equal(t, 2, first.Relay("o1").Status().Members)
		third, stopThird := s.fleet(t)
		s.write(t, 350, 300)
		require.Equal(t, 1, s.leads(third))
		require.EqualValues(t, 3, s.moves.Load())
		stopSecond()
		s.write(t, 650, 100)
		require.Equal(t, []int{2, 2}, []int{s.leads(first), s.leads(third)}, "who leads less goes first")
		stopFirst()
		s.write(t, 750, 100)
		require.Equal(t, 4, s.leads(third))
		stopThird()
		for _, name := range s.names {
			require.Equal(t, numbered("k", 850), s.brokers[name].payloads(""), "nothing lost, nothing twice")
			require.Empty(t, membersOf(t, s.logs[name]), "an instance that stops leaves the member list")
		}
	})
}

// membersOf returns the instances that are ready for the default relay of log.
func membersOf(t *testing.T, log outbox.Membership) []outbox.Member {
	t.Helper()
	r, err := log.Announce(t.Context(), "relay", outbox.Member{ID: "looker-on"}, time.Nanosecond)
	require.NoError(t, err)
	return r.Others
}

func TestFleet_TakesOverFromADeadInstanceWithinTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShore(4)
		var dead atomic.Bool // the database has gone, for the first instance alone
		s.wrap = func(_ string, l outbox.Log) outbox.Log {
			away := func() error {
				if dead.Load() {
					return errors.New("no route to host")
				}
				return nil
			}
			return withoutMembers{&faultyLog{Log: l, acquire: away, renew: away, save: away, release: away}}
		}
		s.fleet(t)
		s.wrap = nil
		second, _ := s.fleet(t)
		third, _ := s.fleet(t)
		time.Sleep(time.Minute)
		dead.Store(true)
		time.Sleep(3 * time.Second)
		require.Equal(t, 4, s.leads(second)+s.leads(third))
		time.Sleep(time.Minute)
		require.Equal(t, []int{2, 2}, []int{s.leads(second), s.leads(third)})
	})
}

// withoutMembers hides the member list of a log.
type withoutMembers struct{ outbox.Log }

func TestFleet_OneOutboxThatIsRefusedDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShore(3)
		var refused atomic.Bool
		refused.Store(true)
		s.wrap = func(name string, l outbox.Log) outbox.Log {
			if name == "o1" {
				return checkedLog{l.(*outboxtest.MemoryLog), &refused}
			}
			return l
		}
		f, stop := s.fleet(t)
		s.write(t, 0, 20)
		require.ErrorIs(t, f.Relay("o1").Status().Err, outbox.ErrUnsafeLog)
		require.False(t, f.Relay("o1").Status().Ready(time.Now(), 15*time.Second))
		require.True(t, f.Relay("o0").Status().Ready(time.Now(), 15*time.Second))
		require.Empty(t, membersOf(t, s.logs["o1"]), "it is not ready for what it cannot lead")
		require.Len(t, s.brokers["o2"].payloads(""), 20)
		require.Empty(t, s.brokers["o1"].payloads(""))
		refused.Store(false)
		time.Sleep(15 * time.Second)
		require.NoError(t, f.Relay("o1").Status().Err)
		require.Len(t, s.brokers["o1"].payloads(""), 20, "it is served once somebody has fixed it")
		stop()
	})
}

// checkedLog has a Check that fails while refused is set.
type checkedLog struct {
	*outboxtest.MemoryLog
	refused *atomic.Bool
}

func (l checkedLog) Check(context.Context) error {
	if l.refused.Load() {
		return &outbox.UnsafeError{Problems: []string{"the server is a standby"}}
	}
	return nil
}

func TestFleet_GoesOnWithoutItsMemberList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShore(2)
		var broken atomic.Bool
		broken.Store(true)
		s.wrap = func(_ string, l outbox.Log) outbox.Log { return silentMembers{l.(*outboxtest.MemoryLog), &broken} }
		first, stopFirst := s.fleet(t)
		time.Sleep(time.Second)
		second, _ := s.fleet(t)
		s.write(t, 0, 100)
		require.Equal(t, []int{2, 0}, []int{s.leads(first), s.leads(second)}, "who comes first leads")
		broken.Store(false)
		s.write(t, 100, 600)
		require.Equal(t, []int{1, 1}, []int{s.leads(first), s.leads(second)}, "once the member list answers, leaders appear in it too")
		stopFirst()
		s.write(t, 700, 20)
		require.Equal(t, 2, s.leads(second))
		for _, name := range s.names {
			require.Equal(t, numbered("k", 720), s.brokers[name].payloads(""))
		}
	})
}

// silentMembers is a log whose member list does not answer while broken is set.
type silentMembers struct {
	*outboxtest.MemoryLog
	broken *atomic.Bool
}

func (l silentMembers) Announce(ctx context.Context, relay string, me outbox.Member, ttl time.Duration) (outbox.Members, error) {
	if l.broken.Load() {
		return outbox.Members{}, errors.New("relation outbox_roster does not exist")
	}
	return l.MemoryLog.Announce(ctx, relay, me, ttl)
}

func TestFleet_KeepsAnOutboxWhoseBrokerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShore(2)
		for _, b := range s.brokers {
			b.hold = make(chan struct{})
		}
		first, _ := s.fleet(t)
		time.Sleep(time.Second)
		s.write(t, 0, 1)
		second, _ := s.fleet(t)
		time.Sleep(time.Minute)
		require.Equal(t, []int{2, 0}, []int{s.leads(first), s.leads(second)}, "what is in flight could not be brought home")
		for _, b := range s.brokers {
			close(b.hold)
		}
		time.Sleep(time.Minute)
		require.Equal(t, []int{1, 1}, []int{s.leads(first), s.leads(second)})
		for _, name := range s.names {
			require.Equal(t, []string{"k0"}, s.brokers[name].payloads(""))
		}
	})
}

func TestFleet_ARelayByItselfWritesNoMemberList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := outboxtest.NewMemoryLog(nil)
		for range 2 {
			relay, _ := start(t, log, &broker{}, outbox.RelayConfig{})
			defer func() { require.Zero(t, relay.Status().Members) }()
		}
		time.Sleep(10 * time.Second)
		require.Empty(t, membersOf(t, log))
	})
}

func TestNewFleet_NamesEveryBadField(t *testing.T) {
	t.Parallel()
	_, err := outbox.NewFleet([]outbox.FleetOutbox{
		{Name: "a", Relay: outbox.RelayConfig{LeaseTTL: time.Minute}, Log: outboxtest.NewMemoryLog(nil), Publisher: &broker{}},
		{Name: "a", Log: outboxtest.NewMemoryLog(nil), Publisher: &broker{}},
		{Name: "b c"},
	}, outbox.FleetConfig{HandOverAfter: time.Second, WindowBytes: -1})
	for _, says := range []string{`outboxes[1].Name: must be unique, is "a"`, `outboxes[2].Name: must be 1 to 64 characters of [A-Za-z0-9._-], is "b c"`, "outboxes[2]: outbox relay: log: must not be nil", "HandOverAfter: must be at least the longest LeaseTTL (1m0s), is 1s", "WindowBytes:"} {
		require.ErrorContains(t, err, says)
	}
	_, err = outbox.NewFleet(nil, outbox.FleetConfig{})
	require.ErrorContains(t, err, "must not be empty")
}

// TestFleet_BoundsWhatItsRelaysHoldTogether pins the default: 64 MiB, whatever
// the number of outboxes.
func TestFleet_BoundsWhatItsRelaysHoldTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShore(8)
		release := make(chan struct{})
		for _, name := range s.names {
			s.brokers[name].hold = release
			for range 30 {
				write(t, s.logs[name], "k", string(make([]byte, 1<<20)))
			}
		}
		f, _ := s.fleet(t)
		time.Sleep(time.Minute)
		held := map[string]int{}
		for _, name := range s.names {
			held[name] = f.Relay(name).Status().InFlight
		}
		total := 0
		for _, n := range slices.Collect(maps.Values(held)) {
			total += n
		}
		require.InDelta(t, 64, total, 8*4, "MiB, and a batch in hand each: %v", held)
		close(release)
	})
}
