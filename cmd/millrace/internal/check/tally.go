package check

import (
	"fmt"
	"sync"

	"github.com/google/uuid"
)

// Event is one event that the database says was committed.
type Event struct {
	ID        uuid.UUID
	Key       string
	Aggregate string
	Version   int64
}

// Verdict is what a tally found. The counts are of events, except Duplicates,
// which counts records.
type Verdict struct {
	Committed  int `json:"committed"`
	Delivered  int `json:"delivered"` // different committed events that were seen
	Lost       int `json:"lost"`
	Ghosts     int `json:"ghosts"`     // seen and never committed
	Reordered  int `json:"reordered"`  // first seen after a later version of the same aggregate, or outside their key's partition
	Duplicates int `json:"duplicates"` // seen again

	Witnesses []string `json:"witnesses,omitempty"` // the first few wrongs
}

// OK reports that every event arrived, in order, and nothing else did.
// Duplicates are not broken promises by themselves.
func (v Verdict) OK() bool { return v.Lost == 0 && v.Ghosts == 0 && v.Reordered == 0 }

const maxWitnesses = 10

// Tally compares what arrives with what was committed. It is safe for
// concurrent use; records of one partition are to be given in offset order.
type Tally struct {
	mu     sync.Mutex
	seen   map[uuid.UUID]place // first delivery of each event
	latest map[stream]int64    // version of the last first delivery
	home   map[string]int32    // partition of each key

	duplicates, reordered int
	witnesses             []string
}

type stream struct{ key, aggregate string }

type place struct {
	partition int32
	offset    int64
	key       string
}

// NewTally returns an empty tally.
func NewTally() *Tally {
	return &Tally{seen: map[uuid.UUID]place{}, latest: map[stream]int64{}, home: map[string]int32{}}
}

// Deliver notes r and reports whether it is the event's first delivery.
func (l *Tally) Deliver(r Record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, again := l.seen[r.EventID]; again {
		l.duplicates++
		return false
	}
	l.seen[r.EventID] = place{r.Partition, r.Offset, r.Key}
	if home, ok := l.home[r.Key]; !ok {
		l.home[r.Key] = r.Partition
	} else if home != r.Partition {
		l.reordered++
		l.witness("key %q is in partition %d and in %d", r.Key, home, r.Partition)
	}
	if r.Version == 0 {
		return true
	}
	s := stream{r.Key, r.Aggregate}
	if last := l.latest[s]; r.Version <= last {
		l.reordered++
		l.witness("key %q: version %d of %q came after version %d (partition %d, offset %d)",
			r.Key, r.Version, r.Aggregate, last, r.Partition, r.Offset)
		return true
	}
	l.latest[s] = r.Version
	return true
}

// Seen is how many different events were delivered so far.
func (l *Tally) Seen() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// Judge compares everything delivered so far with all that was committed.
func (l *Tally) Judge(committed []Event) Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := Verdict{Committed: len(committed), Reordered: l.reordered, Duplicates: l.duplicates}
	for _, e := range committed {
		at, ok := l.seen[e.ID]
		switch {
		case !ok:
			v.Lost++
			l.witness("event %s (key %q, version %d of %q) never arrived", e.ID, e.Key, e.Version, e.Aggregate)
		case at.key != e.Key:
			v.Ghosts++
			l.witness("event %s arrived with key %q instead of %q", e.ID, at.key, e.Key)
		default:
			v.Delivered++
		}
	}
	if extra := len(l.seen) - v.Delivered - v.Ghosts; extra > 0 {
		v.Ghosts += extra
		l.witness("%d records belong to no committed event", extra)
	}
	v.Witnesses = l.witnesses
	return v
}

func (l *Tally) witness(format string, args ...any) {
	if len(l.witnesses) < maxWitnesses {
		l.witnesses = append(l.witnesses, fmt.Sprintf(format, args...))
	}
}
