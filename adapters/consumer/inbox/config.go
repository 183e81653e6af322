package inbox

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/hook"
	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// MinRetention is the shortest retention. Events that are younger by their own
// clock are looked for by their id alone.
const MinRetention = 24 * time.Hour

// Config configures an Inbox. The zero value is usable.
type Config struct {
	// Committed is called after each commit in which an effect was made: give it
	// outbox.Writer.Wake if effects append to an outbox. It must not block.
	// Default none.
	Committed func()
	// Retries is how often a transaction is run again by itself: after a
	// serialization failure, a deadlock, or a COMMIT whose answer was lost; -1 is
	// never. Default 3.
	Retries int
	// RetryWait is the longest wait before the first of these; it doubles with
	// each, and the wait itself is random below it. Default 20 ms.
	RetryWait time.Duration
	// IdleTimeout is how long a transaction may wait for its next statement before
	// the server ends it. That frees the rows of a consumer that froze, which others
	// wait for; -1 is off. Default 30 s.
	IdleTimeout time.Duration
	// Retention is how long the ids of events are kept, MinRetention or more; the
	// package documentation says what is known after it. Default 720 h (30 days).
	Retention time.Duration
	// PruneEvery is the time between two passes of Run. Default 10 min.
	PruneEvery time.Duration
	// Hooks report what happens. Default none.
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

// Commit describes one transaction.
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

func (c Config) validate(group string) error {
	var l problems.List
	l.Unless(group != "", "group", "must be set, is %q", group)
	problems.AtLeast(&l, "Retries", c.Retries, -1)
	problems.AtLeast(&l, "RetryWait", c.RetryWait, 0)
	l.Unless(c.IdleTimeout == -1 || c.IdleTimeout == 0 || c.IdleTimeout >= time.Millisecond, "IdleTimeout", "must be -1 or at least 1ms, is %s", c.IdleTimeout)
	l.Unless(c.Retention == 0 || c.Retention >= MinRetention, "Retention", "must be at least %s, is %s", MinRetention, c.Retention)
	problems.AtLeast(&l, "PruneEvery", c.PruneEvery, 0)
	return l.Err()
}

func (c Config) withDefaults() Config {
	hook.Fill0(&c.Committed)
	c.Retries = cmp.Or(c.Retries, 3)
	c.RetryWait = cmp.Or(c.RetryWait, 20*time.Millisecond)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 30*time.Second)
	c.Retention = cmp.Or(c.Retention, 30*24*time.Hour)
	c.PruneEvery = cmp.Or(c.PruneEvery, 10*time.Minute)
	hook.Fill1(&c.Hooks.Committed)
	hook.Fill2(&c.Hooks.Pruned)
	return c
}

// Tee returns hooks that call those of h and then those of other.
func (h Hooks) Tee(other Hooks) Hooks {
	return Hooks{Committed: hook.Tee1(h.Committed, other.Committed), Pruned: hook.Tee2(h.Pruned, other.Pruned)}
}

// LogHooks logs every error of pruning.
func LogHooks(log *slog.Logger) Hooks {
	return Hooks{Pruned: func(rows int, err error) {
		if err != nil {
			log.Warn("inbox could not be pruned and is pruned again later", "rows", rows, "error", err)
		}
	}}
}
