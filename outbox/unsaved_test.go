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

func TestRelay_TellsHowManyMessagesALostLeadMayRepeat(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lost bool
		want int64
	}{"lost": {true, 30}, "given up": {false, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log, b := outboxtest.NewMemoryLog(nil), &broker{hold: make(chan struct{})}
				write(t, log, "a", numbered("a", 35)...)
				var unsaved, lost atomic.Int64
				faulty := &faultyLog{Log: log, renew: func() error {
					if lost.Load() > 0 {
						return outbox.ErrLeaseLost
					}
					return nil
				}}
				_, stop := start(t, faulty, b, outbox.RelayConfig{BatchRows: 10, WindowRows: 30, Hooks: outbox.Hooks{Unsaved: func(n int) { unsaved.Add(int64(n)) }}})
				time.Sleep(time.Minute)
				if tc.lost {
					lost.Store(1)
					time.Sleep(time.Second)
					lost.Store(0)
				}
				stop()
				require.Equal(t, tc.want, unsaved.Load())
				close(b.hold)
			})
		})
	}
}
