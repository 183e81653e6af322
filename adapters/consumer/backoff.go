package consumer

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// MaxJitter is the largest jitter of an exponential policy.
const MaxJitter = 0.5

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
// before each later one, never longer than most. Each wait is spread evenly over
// ±jitter of itself, 0 to 0.5.
func Exponential(initial time.Duration, multiplier float64, most time.Duration, retries int, jitter float64) Policy {
	return Policy{set: true, initial: initial, multiplier: multiplier, max: most, retries: retries, jitter: jitter}
}

// PerMinute returns p with a cap on the time that the retries of one partition
// may wait within a minute, all together. A failure whose wait would go beyond it
// is given up at once, as if its retries were used up: many failures then fill
// the dead-letter topic rather than hold the partition up. Default 0: no cap.
func (p Policy) PerMinute(most time.Duration) Policy {
	if !p.set {
		p = defaultPolicy
	}
	p.perMinute = most
	return p
}

var defaultPolicy = FixedBackOff(500*time.Millisecond, 3)

// Validate names every field that is out of range.
func (p Policy) Validate() error {
	if !p.set {
		return nil
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("retry policy: "+format, args...))
		}
	}
	check(p.initial >= 0, "interval must not be negative, is %s", p.initial)
	check(p.multiplier >= 1 && !math.IsInf(p.multiplier, 0), "multiplier must be 1 or more, is %v", p.multiplier)
	check(p.max >= p.initial, "longest wait %s is shorter than the first, %s", p.max, p.initial)
	check(p.retries >= 0, "retries must not be negative, is %d", p.retries)
	check(p.perMinute >= 0, "cap per minute must not be negative, is %s", p.perMinute)
	check(p.jitter >= 0 && p.jitter <= MaxJitter, "jitter must be within 0 and %v, is %v", MaxJitter, p.jitter)
	return errors.Join(errs...)
}

// Delay returns the wait before the given retry, 1 for the first, and false once
// the retries are used up. random, in [0, 1), chooses within the jitter.
func (p Policy) Delay(retry int, random float64) (time.Duration, bool) {
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
