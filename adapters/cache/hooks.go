package cache

import "time"

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

// Hooks are called as things happen, for metrics and logs. Nil members are
// skipped. They are called from the callers' goroutines and must return at once.
type Hooks struct {
	// Requested: a Get of the named cache was answered; once for each, with what
	// Redis had to say to it.
	Requested func(cache, result string)
	// Loaded: the database was asked; err is nil also if there was no such thing.
	Loaded func(cache string, took time.Duration, err error)
	// Put: n entries were put, or one filled.
	Put func(cache, result string, n int)
	// Overloaded: a load found no room in time.
	Overloaded func(cache string)
	// Breaker: Redis is left alone from now on (open), or used again.
	Breaker func(open bool)
	// Flushed: Redis has lost its data since this process last looked.
	Flushed func()
	// Warning: Redis is set up in a way that is bad for a cache; text tells what to
	// do. Run says so, once until Redis has lost its data.
	Warning func(text string)
	// Trouble: something was wrong that no caller is told of, since the database
	// answers instead.
	Trouble func(cache string, err error)
}

func (h *Hooks) requested(cache string, r Result) {
	if h.Requested != nil {
		h.Requested(cache, string(r))
	}
}

func (h *Hooks) loaded(cache string, took time.Duration, err error) {
	if h.Loaded != nil {
		h.Loaded(cache, took, err)
	}
}

func (h *Hooks) put(cache string, r PutResult, n int) {
	if h.Put != nil && n > 0 {
		h.Put(cache, string(r), n)
	}
}

func (h *Hooks) overloaded(cache string) {
	if h.Overloaded != nil {
		h.Overloaded(cache)
	}
}

func (h *Hooks) breaker(open bool) {
	if h.Breaker != nil {
		h.Breaker(open)
	}
}

func (h *Hooks) flushed() {
	if h.Flushed != nil {
		h.Flushed()
	}
}

func (h *Hooks) warning(text string) {
	if h.Warning != nil {
		h.Warning(text)
	}
}

func (h *Hooks) trouble(cache string, err error) {
	if h.Trouble != nil && err != nil {
		h.Trouble(cache, err)
	}
}
