package outbox_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// bell records until when writers were asked to ring.
type bell struct {
	mu    sync.Mutex
	until time.Time
	asked int
	dead  bool
}

func (b *bell) Working() bool { return !b.dead }

func (b *bell) Idle(_ context.Context, rest time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Now().Add(rest)
	b.asked++
	return nil
}

func (b *bell) out() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.until)
}

func (b *bell) times() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

// countingLog counts reads.
type countingLog struct {
	outbox.Log
	mu    sync.Mutex
	reads int
}

func (l *countingLog) Acquire(ctx context.Context, relay, owner string, ttl time.Duration) (outbox.Session, error) {
	s, err := l.Log.Acquire(ctx, relay, owner, ttl)
	return countingSession{s, l}, err
}

type countingSession struct {
	outbox.Session
	log *countingLog
}

func (s countingSession) Read(ctx context.Context, limit, maxBytes int) (outbox.Batch, error) {
	s.log.mu.Lock()
	s.log.reads++
	s.log.mu.Unlock()
	return s.Session.Read(ctx, limit, maxBytes)
}

func (l *countingLog) during(d time.Duration) int {
	l.mu.Lock()
	before := l.reads
	l.mu.Unlock()
	time.Sleep(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads - before
}

func TestRelay_SleepsWhileTheDoorbellWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, bell, b := outboxtest.NewMemoryLog(nil), &bell{}, &broker{}
		log := &countingLog{Log: memory}
		relay, stop := start(t, log, b, outbox.RelayConfig{Doorbell: bell})
		time.Sleep(time.Minute)
		asked := bell.times()
		require.LessOrEqual(t, log.during(time.Minute), 21, "about one read in three seconds")
		require.LessOrEqual(t, bell.times()-asked, 5, "writers are asked seldom")
		for range 60 {
			require.True(t, bell.out())
			time.Sleep(time.Second)
		}

		write(t, memory, "a", "a0")
		relay.Wake()
		synctest.Wait()
		require.Equal(t, []string{"a0"}, b.payloads(""), "a ring is answered at once")
		require.False(t, bell.out(), "a relay at work needs no rings")
		time.Sleep(time.Minute)
		require.True(t, bell.out())

		write(t, memory, "a", "a1") // the ring is lost
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"a0", "a1"}, b.payloads(""), "polling is the truth")
		stop()
	})
}

func TestRelay_PollsWhileTheDoorbellIsDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &countingLog{Log: outboxtest.NewMemoryLog(nil)}
		_, stop := start(t, log, &broker{}, outbox.RelayConfig{Doorbell: &bell{dead: true}})
		time.Sleep(time.Minute)
		require.GreaterOrEqual(t, log.during(time.Minute), 1000, "every 50 ms")
		stop()
	})
}

// A read with a context that has ended is not only of no use: a driver may take
// seconds to call the statement back.
func TestRelay_ReadsNoMoreOnceItIsToldToStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &countingLog{Log: outboxtest.NewMemoryLog(nil)}
		_, stop := start(t, log, &broker{}, outbox.RelayConfig{PollMin: time.Second, PollMax: time.Second})
		time.Sleep(2500 * time.Millisecond) // it rests
		log.mu.Lock()
		before := log.reads
		log.mu.Unlock()
		require.Positive(t, before)
		stop()
		require.Equal(t, before, log.reads)
	})
}

func TestRelay_DoesNotSleepOnWritersThatDoNotRing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, b := outboxtest.NewMemoryLog(nil), &broker{}
		log := &countingLog{Log: memory}
		_, stop := start(t, log, b, outbox.RelayConfig{Doorbell: &bell{}})
		time.Sleep(time.Minute)
		write(t, memory, "a", "a0") // found late, as nobody rang
		time.Sleep(10 * time.Second)
		require.Equal(t, 1, b.count())

		write(t, memory, "a", "a1")
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 2, b.count(), "from here on it polls")

		time.Sleep(2 * time.Minute)
		require.LessOrEqual(t, log.during(time.Minute), 21, "until it gives the bell another chance")
		write(t, memory, "a", "a2")
		time.Sleep(90 * time.Second)
		require.Greater(t, log.during(10*time.Second), 100, "twice as long the second time")
		stop()
	})
}
