package quarantine

import (
	"errors"
	"fmt"
	"time"
)

// Config configures a Quarantine. The zero value is usable.
type Config struct {
	// Timeout bounds one statement. Default 5 s.
	Timeout time.Duration
	// RetryWait is the wait after a database error before the next attempt;
	// waits double up to MaxRetryWait. The delivery waits meanwhile: nothing is
	// handled, and nothing becomes a dead letter, that may not. Defaults 100 ms
	// and 5 s.
	RetryWait    time.Duration
	MaxRetryWait time.Duration
	// Keep is how long an entry is remembered once it was handled or released,
	// so that another copy of its dead letter is not handled again. It should be
	// longer than dead letters are kept. Default 30 days, -1 is for ever.
	Keep time.Duration
	// Hooks tell of what happens. Default none.
	Hooks Hooks
}

// Hooks are called synchronously, from many goroutines; any of them may be nil.
// They must be quick and must not panic.
type Hooks struct {
	// Entered tells of a record that waits from now on, or that failed again.
	Entered func(e Entry)
	// Done tells of a record that waited and was handled. last reports that
	// nothing of its key waits any more.
	Done func(e Entry, last bool)
	// Skipped tells of a copy of a record that was handled or released before.
	Skipped func(e Entry)
	// Error tells of a database error that will be tried again after wait.
	Error func(err error, wait time.Duration)
}

// Validate names every field that is out of range.
func (c *Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"timeout", c.Timeout}, {"retry wait", c.RetryWait}, {"max retry wait", c.MaxRetryWait}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative, is %s", d.field, d.value))
		}
	}
	if c.Keep < -1 {
		errs = append(errs, fmt.Errorf("keep must be positive or -1, is %s", c.Keep))
	}
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.RetryWait == 0 {
		c.RetryWait = 100 * time.Millisecond
	}
	if c.MaxRetryWait == 0 {
		c.MaxRetryWait = 5 * time.Second
	}
	c.MaxRetryWait = max(c.MaxRetryWait, c.RetryWait)
	if c.Keep == 0 {
		c.Keep = 30 * 24 * time.Hour
	}
	c.Hooks.setDefaults()
}

func (h *Hooks) setDefaults() {
	if h.Entered == nil {
		h.Entered = func(Entry) {}
	}
	if h.Done == nil {
		h.Done = func(Entry, bool) {}
	}
	if h.Skipped == nil {
		h.Skipped = func(Entry) {}
	}
	if h.Error == nil {
		h.Error = func(error, time.Duration) {}
	}
}
