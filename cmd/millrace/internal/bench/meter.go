package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// meter counts messages that consumers are done with, from the first one that
// was handed to them: how long a group takes to form is not what is measured.
type meter struct {
	want  int64
	n     atomic.Int64
	began atomic.Int64 // Unix nanoseconds
	ended atomic.Int64
	full  chan struct{}
}

func newMeter(want int) *meter { return &meter{want: int64(want), full: make(chan struct{})} }

// start notes the first message.
func (m *meter) start() {
	if m.began.Load() == 0 {
		m.began.CompareAndSwap(0, time.Now().UnixNano())
	}
}

func (m *meter) add(n int) {
	if m.n.Add(int64(n)) == m.want {
		m.ended.Store(time.Now().UnixNano())
		close(m.full)
	}
}

// read returns how many messages were done in which time.
func (m *meter) read() (int, time.Duration) {
	return int(min(m.n.Load(), m.want)), time.Duration(m.ended.Load() - m.began.Load())
}

// startWithin bounds the wait for the first message.
const startWithin = time.Minute

// wait returns when the meter is full or, after limit since the first message,
// with what it has.
func (m *meter) wait(ctx context.Context, limit time.Duration, ended <-chan error, show func(n int)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	called := time.Now()
	for {
		select {
		case <-m.full:
			return nil
		case err := <-ended:
			return fmt.Errorf("stopped by itself: %w", errors.Join(err, ctx.Err()))
		case now := <-tick.C:
			began := m.began.Load()
			if began == 0 {
				if now.Sub(called) > startWithin {
					return errors.New("no message came")
				}
				continue
			}
			show(int(m.n.Load()))
			if now.UnixNano()-began >= int64(limit) {
				m.ended.CompareAndSwap(0, now.UnixNano())
				return nil
			}
		}
	}
}
