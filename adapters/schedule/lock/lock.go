package lock

import (
	"regexp"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// Lock says what to lock and for how long.
type Lock struct {
	// Name of the lock, which is all that nodes have to agree on: 1 to 64 of
	// letters, digits and . _ : -
	Name string
	// AtMostFor is the longest time that the task may take: after it the task's
	// context is cancelled and the lock lapses. Required. A crash does not hold the
	// lock for that long, unless Config.NoKeepAlive is set, so be generous.
	AtMostFor time.Duration
	// AtLeastFor is the shortest time that the lock is held, however fast the task
	// is and however it ends. It must exceed the difference between the clocks of
	// the nodes. It counts from the acquisition, by the clock of the store.
	// Default 0.
	AtLeastFor time.Duration
}

var validName = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// Validate reports everything that is wrong with l.
func (l Lock) Validate() error {
	var bad problems.List
	bad.Unless(validName.MatchString(l.Name), "Name", "must be 1 to 64 letters, digits, or any of . _ : -, is %q", l.Name)
	problems.AtLeast(&bad, "AtMostFor", l.AtMostFor, time.Millisecond)
	problems.AtLeast(&bad, "AtLeastFor", l.AtLeastFor, 0)
	bad.Unless(l.AtLeastFor <= l.AtMostFor, "AtLeastFor", "must be at most AtMostFor (%s), is %s", l.AtMostFor, l.AtLeastFor)
	return bad.Err()
}

// lease is for how long the store gives the lock at first. It is never shorter
// than AtLeastFor, so that this holds also after a crash.
func (l Lock) lease(usual time.Duration, keepAlive bool) time.Duration {
	if !keepAlive {
		return l.AtMostFor
	}
	return min(max(usual, l.AtLeastFor), l.AtMostFor)
}

// trusted is the part of a lease during which the holder may rely on the lock,
// counted from before the request: the lease less 1 %, since clocks do not run
// alike, and less 2 ms.
func trusted(lease time.Duration) time.Duration {
	return lease - lease/100 - 2*time.Millisecond
}
