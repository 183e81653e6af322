package consumer

import (
	"sync"
	"time"
)

// allowance keeps the waits of retries within a limit a minute for each
// partition. Nil has no limit.
type allowance struct {
	most  time.Duration
	mu    sync.Mutex
	spent map[partition]*minute
}

type partition struct {
	topic string
	id    int32
}

func newAllowance(most time.Duration) *allowance {
	if most <= 0 {
		return nil
	}
	return &allowance{most: most, spent: map[partition]*minute{}}
}

// take reports whether the delivery's partition may wait that long from now on,
// and notes that it does.
func (a *allowance) take(d *state, wait time.Duration, now time.Time) bool {
	if a == nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	at := partition{d.Topic, d.Partition}
	m := a.spent[at]
	if m == nil {
		m = &minute{}
		a.spent[at] = m
	}
	m.forget(now.Unix())
	if m.sum+wait > a.most {
		return false
	}
	m.sum += wait
	m.bySecond[m.second%60] += wait
	return true
}

// minute is what was spent in each second of the last minute.
type minute struct {
	bySecond [60]time.Duration
	second   int64 // the newest one, since 1970
	sum      time.Duration
}

// forget moves on to the second now and drops what is a minute old.
func (m *minute) forget(now int64) {
	for m.second = max(m.second, now-60); m.second < now; {
		m.second++
		m.sum -= m.bySecond[m.second%60]
		m.bySecond[m.second%60] = 0
	}
}
