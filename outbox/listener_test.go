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

// fakeListener records until when writers were asked to notify.
type fakeListener struct {
	mu    sync.Mutex
	until time.Time
	asked int
	dead  bool
}

func (b *fakeListener) Working() bool { return !b.dead }

func (b *fakeListener) Arm(_ context.Context, d time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Now().Add(d)
	b.asked++
	return nil
}

func (b *fakeListener) Disarm(ctx context.Context) error { return b.Arm(ctx, 0) }

func (b *fakeListener) armed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.until)
}

func (b *fakeListener) times() int {
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

func TestRelay_PollsRarelyWhileTheListenerWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, fakeListener, b := outboxtest.NewMemoryLog(nil), &fakeListener{}, &broker{}
		log := &countingLog{Log: memory}
		relay, stop := start(t, log, b, outbox.RelayConfig{Listener: fakeListener})
		time.Sleep(time.Minute)
		asked := fakeListener.times()
		require.LessOrEqual(t, log.during(time.Minute), 21, "about one read in three seconds")
		require.LessOrEqual(t, fakeListener.times()-asked, 5, "writers are asked rarely")
		for range 60 {
			require.True(t, fakeListener.armed())
			time.Sleep(time.Second)
		}

		write(t, memory, "a", "a0")
		relay.Wake()
		synctest.Wait()
		require.Equal(t, []string{"a0"}, b.payloads(""), "a notification is answered at once")
		require.False(t, fakeListener.armed(), "a relay at work needs no notifications")
		time.Sleep(time.Minute)
		require.True(t, fakeListener.armed())

		write(t, memory, "a", "a1") // the notification is lost
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"a0", "a1"}, b.payloads(""), "polling finds what no notification announced")
		stop()
	})
}

func TestRelay_PollsWhileTheListenerIsDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &countingLog{Log: outboxtest.NewMemoryLog(nil)}
		_, stop := start(t, log, &broker{}, outbox.RelayConfig{Listener: &fakeListener{dead: true}})
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
		_, stop := start(t, log, b, outbox.RelayConfig{Listener: &fakeListener{}})
		time.Sleep(time.Minute)
		write(t, memory, "a", "a0") // found late, as nobody rang
		time.Sleep(10 * time.Second)
		require.Equal(t, 1, b.count())

		write(t, memory, "a", "a1")
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 2, b.count(), "from here on it polls")

		time.Sleep(2 * time.Minute)
		require.LessOrEqual(t, log.during(time.Minute), 21, "until it gives the fakeListener another chance")
		write(t, memory, "a", "a2")
		time.Sleep(90 * time.Second)
		require.Greater(t, log.during(10*time.Second), 100, "twice as long the second time")
		stop()
	})
}
