package cache

import (
	"log/slog"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/hook"
)

// Result is what became of one Get.
type Result string

// The results of a Get.
const (
	ResultHit      Result = "hit"      // Redis had it
	ResultNear     Result = "near"     // the near layer had it
	ResultMiss     Result = "miss"     // Redis had nothing, or nothing new enough
	ResultNegative Result = "negative" // Redis knew that there is none
	ResultRevoked  Result = "revoked"  // Redis knew that it was revoked
	ResultCorrupt  Result = "corrupt"  // what Redis had could not be read: a miss
	ResultError    Result = "error"    // Redis did not answer: the database was asked
)

// PutResult is what became of one entry that was put or filled.
type PutResult string

// The results of putting an entry.
const (
	PutStored  PutResult = "stored"  // it is the entry now
	PutOlder   PutResult = "older"   // an entry of this or a later version is there
	PutAbsent  PutResult = "absent"  // a Refresh found nothing to replace
	PutRefused PutResult = "refused" // a fill had lost its lease, or its generation was over
	PutError   PutResult = "error"   // Redis did not take it
)

// LoadInfo is one load from the database.
type LoadInfo struct {
	Cache string
	Took  time.Duration
	Err   error // nil also if there was no such thing
}

// PutInfo is some entries that were put, or one that was filled.
type PutInfo struct {
	Cache  string
	Result PutResult
	N      int
}

// Hooks are called as things happen, for metrics and logs. Each may be nil. They
// are called from the callers' goroutines and must return at once.
type Hooks struct {
	// Requested: a Get of the named cache was answered; called once for each Get, with
	// what Redis had.
	Requested func(cache string, result Result)
	// Loaded: the database was asked.
	Loaded func(LoadInfo)
	// Put: entries were put or filled.
	Put func(PutInfo)
	// Overloaded: a load found no capacity in time.
	Overloaded func(cache string)
	// Breaker: Redis is not asked from now on (open), because of err, or is asked
	// again.
	Breaker func(open bool, err error)
	// Flushed: Redis has lost its data since this process last asked.
	Flushed func()
	// Warning: Redis is set up in a way that is bad for a cache; text tells what to
	// do. Run reports it, once until Redis has lost its data.
	Warning func(text string)
	// Trouble reports an error that callers did not see because the database answered.
	Trouble func(cache string, err error)
}

// withDefaults returns the hooks with no-ops for those that are nil.
func (h Hooks) withDefaults() Hooks {
	hook.Fill2(&h.Requested)
	hook.Fill1(&h.Loaded)
	hook.Fill1(&h.Put)
	hook.Fill1(&h.Overloaded)
	hook.Fill2(&h.Breaker)
	hook.Fill0(&h.Flushed)
	hook.Fill1(&h.Warning)
	hook.Fill2(&h.Trouble)
	return h
}

// Tee returns hooks that call those of h and then those of other.
func (h Hooks) Tee(other Hooks) Hooks {
	return Hooks{
		Requested:  hook.Tee2(h.Requested, other.Requested),
		Loaded:     hook.Tee1(h.Loaded, other.Loaded),
		Put:        hook.Tee1(h.Put, other.Put),
		Overloaded: hook.Tee1(h.Overloaded, other.Overloaded),
		Breaker:    hook.Tee2(h.Breaker, other.Breaker),
		Flushed:    hook.Tee0(h.Flushed, other.Flushed),
		Warning:    hook.Tee1(h.Warning, other.Warning),
		Trouble:    hook.Tee2(h.Trouble, other.Trouble),
	}
}

// LogHooks returns hooks that log every loss of contact with Redis with its cause,
// every return, every loss of data, what is wrong with its settings and each load
// that found no capacity; at level debug also each error that no caller saw.
func LogHooks(log *slog.Logger) Hooks {
	return Hooks{
		Overloaded: func(cache string) { log.Warn("cache: no capacity for a load from the database", "cache", cache) },
		Breaker: func(open bool, err error) {
			if open {
				log.Warn("cache: redis is not asked after errors; the database answers", "error", err)
				return
			}
			log.Info("cache: redis is asked again")
		},
		Flushed: func() { log.Warn("cache: redis has lost its data; the database fills it again") },
		Warning: func(text string) { log.Warn("cache: redis is set up badly", "advice", text) },
		Trouble: func(cache string, err error) {
			log.Debug("cache: error that no caller saw", "cache", cache, "error", err)
		},
	}
}

// put reports n entries, if there are any.
func (h *Hooks) put(cache string, r PutResult, n int) {
	if n > 0 {
		h.Put(PutInfo{cache, r, n})
	}
}
