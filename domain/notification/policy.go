package notification

import (
	"fmt"
	"strings"
	"time"
)

// Defaults of a Policy.
const (
	DefaultFirstWait   = time.Minute
	DefaultMaxAttempts = 5
)

// maxWait bounds the doubling of waits.
const maxWait = 24 * time.Hour

// Policy says how often a notification is tried, and how long to wait before it
// is tried again. The zero value is the default.
type Policy struct {
	// First is the wait after the first failed attempt; it doubles with each
	// further one, up to a day. Default 1 min.
	First time.Duration
	// Attempts is how many failed attempts make a notification abandoned.
	// Default 5.
	Attempts int
}

// Wait is how long to wait after the given number of failed attempts: First x
// 2^(failed-1).
func (p Policy) Wait(failed int) time.Duration {
	p = p.withDefaults()
	wait := p.First
	for range failed - 1 {
		if wait *= 2; wait >= maxWait {
			return maxWait
		}
	}
	return min(wait, maxWait)
}

func (p Policy) withDefaults() Policy {
	if p.First <= 0 {
		p.First = DefaultFirstWait
	}
	if p.Attempts <= 0 {
		p.Attempts = DefaultMaxAttempts
	}
	return p
}

// Failure is an attempt to send that ended badly.
type Failure struct {
	// Reason is for people; it must not be blank.
	Reason string
	// Final says that trying again cannot help.
	Final bool
}

// Fail notes an attempt that ended badly, as MarkFailed does, and abandons the
// notification if trying again cannot help or p's attempts are used up. Anyone who
// calls it looks at Status to know which.
func (n *Notification) Fail(f Failure, p Policy, now time.Time) error {
	if err := n.MarkFailed(f.Reason, now); err != nil {
		return err
	}
	p = p.withDefaults()
	switch {
	case f.Final:
		return n.Abandon(f.Reason, now)
	case n.state.Attempts >= p.Attempts:
		return n.Abandon(ReasonText(fmt.Sprintf("gave up after %d attempts: %s", n.state.Attempts, f.Reason)), now)
	}
	return nil
}

// ReasonText makes any text fit to be a reason: valid UTF-8 without NUL, cut to
// MaxReason, and "unknown" if nothing is left of it.
func ReasonText(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	if len(s) > MaxReason {
		s = strings.ToValidUTF8(s[:MaxReason], "")
	}
	if strings.TrimSpace(s) == "" {
		return "unknown"
	}
	return s
}
