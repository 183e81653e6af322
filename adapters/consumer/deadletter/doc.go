// Package deadletter reads and writes the format of dead letters, and works on
// them: list, replay, skip, discard, park.
//
// A dead letter is a record on <topic>.dlt with the partition, key, value and
// headers of the message that a consumer group could not handle. Further headers
// say why; they are those of Spring Kafka, and a few of ours, so Java tools read
// them too. Package consumer writes dead letters.
//
//	order.v1 ──────► handler of group "shipping"
//	   ▲                │ fails for good
//	   │                ▼
//	   │           order.v1.dlt ──► Skip, Discard: nothing is sent
//	   │                │
//	   └──── Replay ────┴───── Park ───► order.v1.parking
//	  to "shipping" only
//
// Kafka topics are append-only: a dead letter that was replayed, skipped, discarded
// or parked stays on its topic. Which ones are resolved is stored as the committed
// offsets of a consumer group, [DefaultProgressGroup]. An [AuditLog], such as
// that of package audit, also stores who resolved what, when and why.
//
// [List] and [Summarize] show what there is, and [Preview] what an action would do.
//
// # For implementers
//
// [AuditLog], [Entry], [Operation], [Quarantine], [Reader]
package deadletter
