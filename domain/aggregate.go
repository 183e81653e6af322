package domain

// AggregateRoot counts and keeps the events of one aggregate. The aggregate
// holds it in an unexported field, so that only its own acts can raise events.
// The zero value is an aggregate nothing has happened to.
type AggregateRoot struct {
	version int64
	pending []Event
}

// RootAt returns a root as it is after version events, none of them pending.
func RootAt(version int64) AggregateRoot { return AggregateRoot{version: version} }

// Raise records a new fact: apply changes the state, the version grows by one,
// and the event is pending until it is taken. Decide before you raise: apply
// must not refuse.
func (r *AggregateRoot) Raise(e Event, apply func(Event)) {
	apply(e)
	r.version++
	r.pending = append(r.pending, e)
}

// Replay repeats a fact of the past: as Raise, but nothing becomes pending.
func (r *AggregateRoot) Replay(e Event, apply func(Event)) {
	apply(e)
	r.version++
}

// Version is the number of events so far, pending ones included.
func (r *AggregateRoot) Version() int64 { return r.version }

// Stored is the version that storage knows: without the pending events.
func (r *AggregateRoot) Stored() int64 { return r.version - int64(len(r.pending)) }

// Pending returns a copy of the events raised since the last Settle, oldest
// first.
func (r *AggregateRoot) Pending() []Event { return append([]Event(nil), r.pending...) }

// Settle forgets the pending events: they are stored and recorded.
func (r *AggregateRoot) Settle() { r.pending = nil }

// Envelopes wraps events, the latest of which made the aggregate's version what
// it is now. newID gives each its unique id.
func Envelopes(aggregateType, aggregateID string, version int64, events []Event, trace Trace, newID func() string) []Recorded {
	out := make([]Recorded, len(events))
	for i, e := range events {
		out[i] = Recorded{
			ID:               newID(),
			AggregateType:    aggregateType,
			AggregateID:      aggregateID,
			AggregateVersion: version - int64(len(events)-1-i),
			OccurredAt:       e.OccurredAt(),
			Trace:            trace,
			Event:            e,
		}
	}
	return out
}
