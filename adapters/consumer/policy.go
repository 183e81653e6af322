package consumer

import (
	"math"
	"sync"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// maxJitter is the largest jitter of an exponential policy.
const maxJitter = 0.5

// Policy says how often, and after which waits, a failed delivery is repeated.
// The zero value is FixedBackOff(500 ms, 3): four deliveries within 1.5 s of
// waiting.
type Policy struct {
	set        bool
	initial    time.Duration
	multiplier float64
	max        time.Duration
	retries    int
	jitter     float64
	perMinute  time.Duration
}

// FixedBackOff retries up to retries times and waits interval before each; with
// retries 0 the first failure is final.
func FixedBackOff(interval time.Duration, retries int) Policy {
	return Policy{set: true, initial: interval, multiplier: 1, max: interval, retries: retries}
}

// Exponential waits initial before the first retry and multiplier times longer
// before each later one, never longer than maxWait. Each wait is spread evenly over
// ±jitter of itself, 0 to 0.5.
func Exponential(initial time.Duration, multiplier float64, maxWait time.Duration, retries int, jitter float64) Policy {
	return Policy{set: true, initial: initial, multiplier: multiplier, max: maxWait, retries: retries, jitter: jitter}
}

// PerMinute returns p with a cap on the time that the retries of one partition
// may wait within a minute, all together. A message whose wait would exceed it
// becomes a dead letter at once, as if its retries were used up: many failures then
// fill the dead-letter topic rather than hold the partition up. Default: no cap.
func (p Policy) PerMinute(maxWait time.Duration) Policy {
	if !p.set {
		p = defaultPolicy
	}
	p.perMinute = maxWait
	return p
}

var defaultPolicy = FixedBackOff(500*time.Millisecond, 3)

func (p Policy) validate() error {
	if !p.set {
		return nil
	}
	var l problems.List
	problems.AtLeast(&l, "interval", p.initial, 0)
	l.Unless(p.multiplier >= 1 && !math.IsInf(p.multiplier, 0), "multiplier", "must be at least 1 and finite, is %v", p.multiplier)
	l.Unless(p.max >= p.initial, "longest wait", "must be at least the first wait, %s, is %s", p.initial, p.max)
	problems.AtLeast(&l, "retries", p.retries, 0)
	problems.AtLeast(&l, "cap per minute", p.perMinute, 0)
	problems.Within(&l, "jitter", p.jitter, 0, maxJitter)
	return l.Err()
}

// delay returns the wait before the given retry, 1 for the first, and false once
// the retries are used up. random, in [0, 1), chooses within the jitter.
func (p Policy) delay(retry int, random float64) (time.Duration, bool) {
	if !p.set {
		p = defaultPolicy
	}
	if retry < 1 || retry > p.retries {
		return 0, false
	}
	if p.initial == 0 {
		return 0, true // and no 0 × ∞ below
	}
	wait := float64(p.initial) * math.Pow(p.multiplier, float64(retry-1))
	wait *= 1 - p.jitter + 2*p.jitter*random
	if wait >= float64(p.max) {
		return p.max, true
	}
	return time.Duration(wait), true
}

// allowance keeps the waits of retries within a limit a minute for each
// partition. Nil has no limit.
type allowance struct {
	limit time.Duration
	mu    sync.Mutex
	spent map[partition]*minute
}

type partition struct {
	topic string
	id    int32
}

func newAllowance(limit time.Duration) *allowance {
	if limit <= 0 {
		return nil
	}
	return &allowance{limit: limit, spent: map[partition]*minute{}}
}

// take reports whether the delivery's partition may wait that long from now on, and
// counts the wait if so.
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
	if m.sum+wait > a.limit {
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
