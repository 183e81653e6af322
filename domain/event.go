// Package domain is the kernel that the aggregates of the reference service
// share: events, aggregate roots, entities and errors. It uses the standard
// library alone and knows nothing of storage or transport.
//
// Reference code: no compatibility promise.
package domain

import "time"

// Event is a fact of the domain, named in the past tense. It never changes once
// it was raised.
type Event interface {
	// EventName names the fact within its aggregate type: "Requested".
	EventName() string
	// OccurredAt is when the fact came about by the clock of the process that raised it,
	// in UTC and whole microseconds.
	OccurredAt() time.Time
}

// Recorded is an event in its envelope: which change of which aggregate it was,
// and what led to it.
type Recorded struct {
	// ID is unique forever; consumers deduplicate by it.
	ID string
	// AggregateType and AggregateID name the aggregate that raised the event.
	AggregateType string
	AggregateID   string
	// AggregateVersion is the version of the aggregate after the event: 1 for
	// the first, then one more for each.
	AggregateVersion int64
	// OccurredAt repeats the event's own time.
	OccurredAt time.Time
	Trace      Trace
	Event      Event
}

// Trace tells what an event belongs to. Every field may be empty.
type Trace struct {
	// Parent is a W3C traceparent: 00-<32 hex>-<16 hex>-<2 hex>.
	Parent string
	// CorrelationID is shared by everything that one outside request set off.
	CorrelationID string
	// CausationID is the id of the event or request that directly led here.
	CausationID string
}

// Time returns t as the domain keeps it: UTC, whole microseconds, no monotonic
// reading. A time that went through Postgres or JSON compares equal to it.
func Time(t time.Time) time.Time {
	return t.UTC().Round(0).Truncate(time.Microsecond)
}
