package inbox

import (
	"errors"
	"fmt"
	"time"
)

// MinRetention is the shortest retention. Events that are younger by their own
// clock are looked for by their id alone.
const MinRetention = 24 * time.Hour

// Config configures an Inbox. Group is required.
type Config struct {
	// Group is the consumer group whose effects the inbox makes once. Groups are
	// independent of each other.
	Group string
	// Committed is called after each commit in which an effect was made: give it
	// outbox.Writer.Committed if effects append to an outbox. It must not block.
	// Default none.
	Committed func()
	// Retries is how often a transaction is run again by itself: after a
	// serialization failure, a deadlock, or a COMMIT whose answer was lost; -1 is
	// never. Default 3.
	Retries int
	// RetryWait is the longest wait before the first of these; it doubles with
	// each, and the wait itself is random below it. Default 20 ms.
	RetryWait time.Duration
	// IdleTimeout is how long a transaction may wait for its next statement until
	// the server ends it. It is what frees the rows of a consumer that froze, for
	// which others wait; -1 is off. Default 30 s.
	IdleTimeout time.Duration
	// Retention is how long the ids of events are kept, MinRetention or more; the
	// package tells what is known after it. Default 720 h (30 days).
	Retention time.Duration
	// PruneEvery is the pause between two passes of Run. Default 10 min.
	PruneEvery time.Duration
	// Hooks tell of what happens. Default none.
	Hooks Hooks
}

// Hooks are called synchronously, from many goroutines; any of them may be nil.
type Hooks struct {
	// Committed is called after each transaction of the inbox that was
	// successful, also if it found that there was nothing to do.
	Committed func(Commit)
	// Pruned is called after each pass of Run that replaced rows, and with each
	// error of one; Run goes on.
	Pruned func(rows int, err error)
}

// Commit tells of one transaction.
type Commit struct {
	Topic      string
	Group      string
	Applied    int           // effects made
	Duplicates int           // events that were done before
	Failed     int           // messages left out: failed, or behind a failed one of their key
	Attempts   int           // runs of the transaction, this one included
	Took       time.Duration // from the first BEGIN to the end of COMMIT
	CommitTook time.Duration // of COMMIT alone
}

// Validate names every field that is missing or out of range.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Group != "", "Group: is missing")
	check(c.Retries >= -1, "Retries: must be -1 for never, 0 for the default, or positive, is %d", c.Retries)
	check(c.RetryWait >= 0, "RetryWait: must not be negative, is %s", c.RetryWait)
	check(c.IdleTimeout == -1 || c.IdleTimeout == 0 || c.IdleTimeout >= time.Millisecond, "IdleTimeout: must be -1 or at least 1ms, is %s", c.IdleTimeout)
	check(c.Retention == 0 || c.Retention >= MinRetention, "Retention: must be at least %s, is %s", MinRetention, c.Retention)
	check(c.PruneEvery >= 0, "PruneEvery: must not be negative, is %s", c.PruneEvery)
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	if c.Committed == nil {
		c.Committed = func() {}
	}
	if c.Retries == 0 {
		c.Retries = 3
	}
	if c.RetryWait == 0 {
		c.RetryWait = 20 * time.Millisecond
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 30 * time.Second
	}
	if c.Retention == 0 {
		c.Retention = 30 * 24 * time.Hour
	}
	if c.PruneEvery == 0 {
		c.PruneEvery = 10 * time.Minute
	}
	if c.Hooks.Committed == nil {
		c.Hooks.Committed = func(Commit) {}
	}
	if c.Hooks.Pruned == nil {
		c.Hooks.Pruned = func(int, error) {}
	}
}
