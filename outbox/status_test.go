package outbox_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/outboxtest"
)

// A decision on parked messages opens the session again; nothing moves by that.
func TestStatus_StaysNotReadyOverAReopenedSessionWhileTheBrokerIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, b := outboxtest.NewMemoryLog(nil), &broker{hold: make(chan struct{})}
		write(t, log, "a", numbered("a", 35)...)
		var reopen atomic.Bool
		faulty := &faultyLog{Log: log, renew: func() error {
			if reopen.CompareAndSwap(true, false) {
				return outbox.ErrReopen
			}
			return nil
		}}
		relay, stop := start(t, faulty, b, outbox.RelayConfig{DrainTimeout: time.Second})
		time.Sleep(time.Minute)
		require.False(t, relay.Status().Ready(time.Now(), 15*time.Second))
		reopen.Store(true)
		var ready int
		for range 200 {
			time.Sleep(100 * time.Millisecond)
			if relay.Status().Ready(time.Now(), 15*time.Second) {
				ready++
			}
		}
		b.mu.Lock()
		close(b.hold)
		b.hold = nil
		b.mu.Unlock()
		stop()
		require.Zero(t, ready, "of 200 looks, while nothing moved")
	})
}
