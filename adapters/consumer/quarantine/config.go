package quarantine

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/hook"
	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// Config configures a Quarantine. The zero value is usable.
type Config struct {
	// Timeout bounds one statement. Default 5 s.
	Timeout time.Duration
	// RetryWait is the wait after a database error before the next attempt. It
	// doubles with each further error, up to MaxRetryWait. The delivery waits
	// meanwhile: nothing is handled or becomes a dead letter that must not. Default
	// 100 ms.
	RetryWait time.Duration
	// MaxRetryWait is the longest such wait. Default 5 s.
	MaxRetryWait time.Duration
	// Keep is how long an entry is remembered once it was handled or released,
	// so that another copy of its dead letter is not handled again. It should be
	// longer than dead letters are kept. -1 is forever. Default 30 days.
	Keep time.Duration
	// Hooks report what happens. Default none.
	Hooks Hooks
}

// Hooks are called synchronously, from many goroutines; any of them may be nil.
// They must be quick and must not panic.
type Hooks struct {
	// Entered reports a record that waits from now on, or that failed again.
	Entered func(e Entry)
	// Done reports a record that waited and was handled. last reports that
	// nothing of its key waits any more.
	Done func(e Entry, last bool)
	// Skipped reports a copy of a record that was handled or released before.
	Skipped func(e Entry)
	// Error reports a database error that will be tried again after wait.
	Error func(err error, wait time.Duration)
}

func (c Config) validate() error {
	var l problems.List
	problems.AtLeast(&l, "Timeout", c.Timeout, 0)
	problems.AtLeast(&l, "RetryWait", c.RetryWait, 0)
	problems.AtLeast(&l, "MaxRetryWait", c.MaxRetryWait, 0)
	l.Unless(c.Keep >= -1, "Keep", "must be positive or -1, is %s", c.Keep)
	return l.Err()
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.RetryWait = cmp.Or(c.RetryWait, 100*time.Millisecond)
	c.MaxRetryWait = cmp.Or(c.MaxRetryWait, 5*time.Second)
	c.Keep = cmp.Or(c.Keep, 30*24*time.Hour)
	c.Hooks = c.Hooks.withDefaults()
	return c
}

func (h Hooks) withDefaults() Hooks {
	hook.Fill1(&h.Entered)
	hook.Fill2(&h.Done)
	hook.Fill1(&h.Skipped)
	hook.Fill2(&h.Error)
	return h
}

// Tee returns hooks that call those of h and then those of other.
func (h Hooks) Tee(other Hooks) Hooks {
	return Hooks{
		Entered: hook.Tee1(h.Entered, other.Entered), Done: hook.Tee2(h.Done, other.Done),
		Skipped: hook.Tee1(h.Skipped, other.Skipped), Error: hook.Tee2(h.Error, other.Error),
	}
}

// LogHooks logs every record that enters the quarantine or leaves it, and every
// database error.
func LogHooks(log *slog.Logger) Hooks {
	attrs := func(e Entry) []any {
		return []any{"group", e.Group, "topic", e.Topic, "partition", e.Partition, "offset", e.Offset, "event", e.EventID}
	}
	return Hooks{
		Entered: func(e Entry) { log.Warn("record waits in quarantine", append(attrs(e), "failures", e.Failures)...) },
		Done: func(e Entry, last bool) {
			log.Info("record of a quarantined key handled", append(attrs(e), "last", last)...)
		},
		Skipped: func(e Entry) { log.Info("copy of a handled or released record skipped", attrs(e)...) },
		Error: func(err error, wait time.Duration) {
			log.Warn("quarantine cannot reach its database", "error", err, "again_in", wait)
		},
	}
}
