package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/outbox/record"
)

// pauser notes what it was told last of each partition.
type pauser struct {
	mu     sync.Mutex
	paused map[int32]bool
	calls  int
}

func (p *pauser) Pause(_ string, partition int32)  { p.set(partition, true) }
func (p *pauser) Resume(_ string, partition int32) { p.set(partition, false) }

func (p *pauser) set(partition int32, paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == nil {
		p.paused = map[int32]bool{}
	}
	p.paused[partition] = paused
	p.calls++
}

func (p *pauser) is(partition int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused[partition]
}

// guarded is a handler behind a breaker in a synctest bubble.
type guarded struct {
	t      *testing.T
	breaks *consumer.Breaker
	pauser pauser
	broker broker
	feed   *feed
	stop   func() error

	mu      sync.Mutex
	fails   map[string]error // by value; "" is for all
	during  func()           // of a call
	calls   []string
	handled []string
	ends    []consumer.Delivery
}

func newGuarded(t *testing.T, cfg consumer.BreakerConfig) *guarded {
	g := &guarded{t: t, feed: newFeed(), fails: map[string]error{}}
	cfg.Pauser = &g.pauser
	var err error
	g.breaks, err = consumer.NewBreaker(cfg)
	require.NoError(t, err)
	r := newRouter(t, &g.broker, consumer.Config{Retry: consumer.FixedBackOff(100*time.Millisecond, 2),
		Hooks: consumer.Hooks{Delivered: func(d consumer.Delivery) { g.note(func() { g.ends = append(g.ends, d) }) }},
	})
	r.Handle("views", topic, g.feed, g.handle, consumer.WithBreaker(g.breaks))
	g.stop = start(t, r)
	return g
}

// behindBreaker runs f in a synctest bubble of its own, and a clean stop after it.
func behindBreaker(t *testing.T, cfg consumer.BreakerConfig, f func(t *testing.T, g *guarded)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t, cfg)
		f(t, g)
		require.NoError(t, g.stop())
	})
}

func (g *guarded) note(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *guarded) handle(m *message.Message) error {
	g.mu.Lock()
	if during := g.during; during != nil {
		g.mu.Unlock()
		during()
		g.mu.Lock()
	}
	defer g.mu.Unlock()
	v := string(m.Payload)
	g.calls = append(g.calls, v)
	if err := errors.Join(g.fails[""], g.fails[v]); err != nil {
		return err
	}
	g.handled = append(g.handled, v)
	return nil
}

// give hands over n records of partition 3 called name0, name1, …
func (g *guarded) give(name string, n int) {
	for i := range n {
		rec := newRecord()
		rec.Offset = int64(i)
		g.feed.give(rec, fmt.Sprint(name, i))
	}
	synctest.Wait()
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (g *guarded) fail(value string, err error) { g.note(func() { g.fails[value] = err }) }

func (g *guarded) counts() (calls, handled int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.calls), len(g.handled)
}

func TestBreaker_HoldsRecordsWhileADependencyIsDownAndLosesNone(t *testing.T) {
	t.Parallel()
	var opened, probed, closed []consumer.BreakerStatus
	behindBreaker(t, consumer.BreakerConfig{
		InARow: 4, ProbeEvery: 10 * time.Second,
		Hooks: consumer.Hooks{
			Paused:  func(s consumer.BreakerStatus) { opened = append(opened, s) },
			Probed:  func(s consumer.BreakerStatus) { probed = append(probed, s) },
			Resumed: func(s consumer.BreakerStatus) { closed = append(closed, s) },
		},
	}, func(t *testing.T, g *guarded) {
		g.give("fine", 20)
		g.fail("", errDown)
		g.give("held", 6)
		require.True(t, g.pauser.is(3))
		require.Len(t, opened, 1)
		pass(time.Second)
		st := g.breaks.Status()
		require.Len(t, st, 1)
		require.Equal(t, "views", st[0].Handler)
		require.Equal(t, topic, st[0].Topic)
		require.Equal(t, group, st[0].Group)
		require.EqualValues(t, 3, st[0].Partition)
		require.Equal(t, 6, st[0].Held)
		require.ErrorIs(t, st[0].Err, errDown)
		before, _ := g.counts()
		require.LessOrEqual(t, before, 20+6+3, "nobody goes on trying")

		pass(10 * time.Minute)
		after, handled := g.counts()
		require.InDelta(t, 60, after-before, 7)
		require.Equal(t, 20, handled)
		require.Len(t, probed, after-before)
		require.Empty(t, g.broker.All(), "nothing is given up")

		g.fail("", nil)
		pass(11 * time.Second)
		_, handled = g.counts()
		require.Equal(t, 26, handled)
		require.Len(t, closed, 1)
		require.False(t, closed[0].Open)
		require.Empty(t, g.breaks.Status())
		require.False(t, g.pauser.is(3))
	})
}

func TestBreaker_OnePoisonRecordDoesNotOpenIt(t *testing.T) {
	t.Parallel()
	behindBreaker(t, consumer.BreakerConfig{InARow: 2}, func(t *testing.T, g *guarded) {
		g.fail("poison0", errDown)
		for range 5 {
			g.give("poison", 1)
			pass(time.Second)
			g.give("fine", 10)
		}
		require.Len(t, g.broker.All(), 5)
		require.Zero(t, g.pauser.calls)
	})
}

func TestBreaker_FailuresThatNoRetryHealsDoNotOpenIt(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"fatal": consumer.Fatal(errDown), "decode": consumer.ErrDecode, "panic": &consumer.PanicError{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			behindBreaker(t, consumer.BreakerConfig{InARow: 2, Window: 5}, func(t *testing.T, g *guarded) {
				g.fail("", err)
				g.give("bad", 50)
				require.Len(t, g.broker.All(), 50)
				require.Zero(t, g.pauser.calls)
			})
		})
	}
}

func TestBreaker_OpensWhenTooLargeAShareFails(t *testing.T) {
	t.Parallel()
	behindBreaker(t, consumer.BreakerConfig{InARow: -1, Share: 20, Window: 10}, func(t *testing.T, g *guarded) {
		g.fail("poison0", errDown)
		for range 2 { // 2 of 10
			g.give("poison", 1)
			pass(time.Second)
			g.give("fine", 4)
		}
		require.False(t, g.pauser.is(3))
		require.Len(t, g.broker.All(), 2)
		g.give("fine", 1)
		g.give("poison", 1) // 2 of 10, still: the first has left the window
		pass(time.Second)
		require.False(t, g.pauser.is(3))
		g.give("poison", 1)
		pass(time.Second)
		require.True(t, g.pauser.is(3), "3 of 10")
		require.Len(t, g.broker.All(), 3, "the one that opens it is held")
		g.fail("poison0", nil)
		pass(12 * time.Second)
		require.False(t, g.pauser.is(3))
		require.Len(t, g.broker.All(), 3)
	})
}

func TestBreaker_HeldRecordThatFailsByItselfDoesNotKeepItOpen(t *testing.T) {
	t.Parallel()
	behindBreaker(t, consumer.BreakerConfig{InARow: 3}, func(t *testing.T, g *guarded) {
		g.fail("", errDown)
		g.give("held", 3)
		require.True(t, g.pauser.is(3))
		g.fail("", nil)
		g.fail("held0", errDown) // it is the first to be tried, and poison
		pass(25 * time.Second)
		require.False(t, g.pauser.is(3), "held ones take turns")
		_, handled := g.counts()
		require.Equal(t, 2, handled)
		require.Len(t, g.broker.All(), 1)
	})
}

func TestBreaker_LetsARecordGoThatWasHeldTooLong(t *testing.T) {
	t.Parallel()
	behindBreaker(t, consumer.BreakerConfig{InARow: 1, MaxHold: time.Minute}, func(t *testing.T, g *guarded) {
		g.fail("", errDown)
		g.give("held", 1)
		require.True(t, g.pauser.is(3))
		pass(50 * time.Second)
		require.Empty(t, g.broker.All())
		pass(15 * time.Second)
		require.Len(t, g.broker.All(), 1)
		require.False(t, g.pauser.is(3), "there is nothing left to try")
		require.Empty(t, g.breaks.Status())
		g.give("next", 1)
		require.True(t, g.pauser.is(3))
		g.fail("", nil)
		pass(11 * time.Second)
		_, handled := g.counts()
		require.Equal(t, 1, handled)
		require.Empty(t, g.breaks.Status())
	})
}

// However long a dependency cannot be reached, nothing is given up for it; with
// one delivery at a time too.
func TestBreaker_GivesNothingUpWhileADependencyIsUnavailable(t *testing.T) {
	t.Parallel()
	unavailable := func(err error) bool { return errors.Is(err, errDown) }
	behindBreaker(t, consumer.BreakerConfig{Unavailable: unavailable, MaxHold: time.Minute}, func(t *testing.T, g *guarded) {
		g.fail("", errDown)
		g.give("held", 1)
		require.True(t, g.pauser.is(3), "the first failure opens it")
		pass(time.Hour)
		require.Empty(t, g.broker.All())
		require.True(t, g.pauser.is(3))
		g.fail("", nil)
		pass(11 * time.Second)
		_, handled := g.counts()
		require.Equal(t, 1, handled)
		require.Empty(t, g.broker.All())
		require.False(t, g.pauser.is(3))
	})
}

func TestBreaker_OtherFailureShowsThatTheDependencyIsBack(t *testing.T) {
	t.Parallel()
	unavailable := func(err error) bool { return errors.Is(err, errDown) }
	behindBreaker(t, consumer.BreakerConfig{Unavailable: unavailable}, func(t *testing.T, g *guarded) {
		g.fail("", errDown)
		g.give("poison", 1)
		pass(time.Minute)
		require.True(t, g.pauser.is(3))
		g.fail("", nil)
		g.fail("poison0", errors.New("no such customer"))
		pass(12 * time.Second) // the next attempt, and its retries
		require.False(t, g.pauser.is(3))
		require.Len(t, g.broker.All(), 1, "it is given up for what it is")
		g.give("fine", 1)
		_, handled := g.counts()
		require.Equal(t, 1, handled)
	})
}

func TestBreaker_LeavesHeldRecordsWhenTheirPartitionIsLost(t *testing.T) {
	t.Parallel()
	behindBreaker(t, consumer.BreakerConfig{InARow: 1}, func(t *testing.T, g *guarded) {
		g.fail("", errDown)
		claim, lose := context.WithCancel(context.WithoutCancel(g.feed.ctx))
		m := newMessage(claim, newRecord(), "held")
		g.feed.out <- m
		synctest.Wait()
		require.True(t, g.pauser.is(3))
		lose()
		synctest.Wait()
		require.False(t, acked(m))
		require.Equal(t, consumer.OutcomeUnfinished, g.ends[0].Outcome)
		require.False(t, g.pauser.is(3), "or a partition that comes back would stay paused")
		g.fail("", nil)
		g.give("back", 1)
		pass(11 * time.Second)
		_, handled := g.counts()
		require.Equal(t, 1, handled)
		require.Empty(t, g.broker.All())
	})
}

func TestBreaker_StopDoesNotWaitForHeldRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t, consumer.BreakerConfig{InARow: 1})
		g.fail("", errDown)
		g.give("held", 3)
		began := time.Now()
		require.NoError(t, g.stop())
		require.Less(t, time.Since(began), time.Second)
		require.Empty(t, g.broker.All())
		require.Len(t, g.ends, 3)
		for _, d := range g.ends {
			require.Equal(t, consumer.OutcomeUnfinished, d.Outcome)
		}
	})
}

func TestBreaker_TriesOneDeliveryAtATime(t *testing.T) {
	t.Parallel()
	behindBreaker(t, consumer.BreakerConfig{InARow: 1, ProbeEvery: time.Second}, func(t *testing.T, g *guarded) {
		g.fail("", errDown)
		g.give("held", 5)
		var atOnce, most int
		g.note(func() {
			g.during = func() {
				g.note(func() { atOnce++; most = max(most, atOnce) })
				time.Sleep(3 * time.Second)
				g.note(func() { atOnce-- })
			}
		})
		pass(time.Minute)
		require.Equal(t, 1, most)
	})
}

func TestBreaker_IsPerPartition(t *testing.T) {
	t.Parallel()
	behindBreaker(t, consumer.BreakerConfig{InARow: 1}, func(t *testing.T, g *guarded) {
		g.fail("held0", errDown)
		g.give("held", 1)
		other := &record.Record{Topic: topic, Partition: 4, Group: group}
		g.feed.give(other, "other")
		synctest.Wait()
		require.True(t, g.pauser.is(3))
		require.False(t, g.pauser.is(4))
		require.True(t, slices.Contains(g.handled, "other"))
	})
}

func TestNewBreaker_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := consumer.NewBreaker(consumer.BreakerConfig{InARow: -2, Share: 100, Window: -1, ProbeEvery: -1, MaxHold: -2})
	for _, want := range []string{"InARow: must be", "Share: must be", "Window: must be", "ProbeEvery: must be", "MaxHold: must be"} {
		require.ErrorContains(t, err, want)
	}
}
