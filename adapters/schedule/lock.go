package schedule

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Lock says what to lock and for how long.
type Lock struct {
	// Name of the lock, which is all that nodes have to agree on: 1 to 64 of
	// letters, digits and . _ : -
	Name string
	// AtMostFor is the longest that the task may take; then its context is
	// cancelled and the lock lapses. Required. With keep-alive it is no guess of
	// what a crash costs, so it may be generous.
	AtMostFor time.Duration
	// AtLeastFor is the shortest that the lock is held, however fast the task is
	// and however it ends: longer than the clocks of nodes differ. Measured from
	// the acquisition by the clock of the store. Default 0.
	AtLeastFor time.Duration
}

var lockName = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// Validate reports everything that is wrong with l.
func (l Lock) Validate() error {
	var errs []error
	if !lockName.MatchString(l.Name) {
		errs = append(errs, fmt.Errorf("name: %q must be 1 to 64 letters, digits, or any of . _ : -", l.Name))
	}
	if l.AtMostFor < time.Millisecond {
		errs = append(errs, fmt.Errorf("at most for: must be at least 1ms, is %s", l.AtMostFor))
	}
	if l.AtLeastFor < 0 {
		errs = append(errs, fmt.Errorf("at least for: must not be negative, is %s", l.AtLeastFor))
	}
	if l.AtLeastFor > l.AtMostFor {
		errs = append(errs, fmt.Errorf("at least for: %s is longer than at most for, %s", l.AtLeastFor, l.AtMostFor))
	}
	return errors.Join(errs...)
}

// lease is for how long the store gives the lock at first. It is never shorter
// than AtLeastFor, so that this holds also after a crash.
func (l Lock) lease(usual time.Duration, keepAlive bool) time.Duration {
	if !keepAlive {
		return l.AtMostFor
	}
	return min(max(usual, l.AtLeastFor), l.AtMostFor)
}

// trusted is for how much of a lease the holder may believe in it, counted from
// before the request: less 1 % for clocks that do not run alike, and 2 ms.
func trusted(lease time.Duration) time.Duration {
	return lease - lease/100 - 2*time.Millisecond
}
