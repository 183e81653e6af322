package deadletter

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/outbox/record"
)

// Message is a dead letter as its topic has it, written by package consumer, by
// Spring Kafka, by a share group of Kafka or by Kafka Connect.
type Message struct {
	// Record is the record itself, Value its value; nil is a tombstone.
	Record *record.Record
	Value  []byte

	// Where the message was first consumed. An unknown partition is
	// record.PartitionByKey, an unknown offset -1.
	OriginalTopic     string
	OriginalPartition int32
	OriginalOffset    int64
	OriginalTimestamp time.Time

	Group       string // the consumer group that failed
	Disposition Disposition
	Attempts    int
	ReplayCount int
	FailedAt    time.Time // the record's time if no header says
	ErrorType   string
	Error       string

	// FailedRecord is the record that failed last, the original one or a replay of
	// it: topic, partition and offset only. Nil if no header says.
	FailedRecord *record.Record
	// ValueOmitted reports that the value was too large for the dead-letter topic.
	// It had ValueSize bytes, and FailedRecord still has it unless retention has
	// removed that record.
	ValueOmitted bool
	ValueSize    int

	// State is what became of the dead letter; Parse sets StateOpen. Decision says
	// more if an AuditLog knows it.
	State    State
	Decision *Decision
}

// Parse reads the headers of a dead letter. bad names headers whose values are not
// valid for their type; such values are ignored.
func Parse(rec *record.Record, value []byte) (m Message, bad []string) {
	o, bad, known := readOrigin(rec.Headers)
	if !known {
		o.partition, o.offset = record.PartitionByKey, -1
	}
	m = Message{
		Record: rec, Value: value,
		OriginalTopic: o.topic, OriginalPartition: o.partition, OriginalOffset: o.offset, OriginalTimestamp: o.timestamp,
		Group:       o.group,
		Disposition: Disposition(lastText(rec.Headers, HeaderDisposition)),
		FailedAt:    rec.Timestamp,
		ErrorType:   lastText(rec.Headers, HeaderExceptionType),
		Error:       lastText(rec.Headers, HeaderExceptionMessage),
		State:       StateOpen,
	}
	m.readFailure(&bad)
	m.readForeign(&bad)
	return m, bad
}

// readFailure reads the headers that package consumer writes.
func (m *Message) readFailure(bad *[]string) {
	hs := m.Record.Headers
	if place := lastText(hs, HeaderFailedRecord); place != "" {
		if m.FailedRecord = parsePlace(place); m.FailedRecord == nil {
			*bad = append(*bad, HeaderFailedRecord)
		}
	}
	m.Group = cmp.Or(lastText(hs, HeaderTargetGroup), m.Group)
	if at, err := time.Parse(time.RFC3339Nano, lastText(hs, HeaderFailedAt)); err == nil {
		m.FailedAt = at
	} else if _, has := last(hs, HeaderFailedAt); has {
		*bad = append(*bad, HeaderFailedAt)
	}
	if _, m.ValueOmitted = last(hs, HeaderValueOmitted); m.ValueOmitted {
		m.ValueSize, _ = readCount(hs, HeaderValueOmitted)
	}
	var ok bool
	if m.Attempts, ok = readCount(hs, HeaderAttempts); !ok {
		*bad = append(*bad, HeaderAttempts)
	}
	if m.ReplayCount, ok = readCount(hs, HeaderReplayCount); !ok {
		*bad = append(*bad, HeaderReplayCount)
	}
}

// parsePlace reads "topic/partition/offset", and returns nil for anything else.
func parsePlace(place string) *record.Record {
	parts := strings.Split(place, "/")
	if len(parts) != 3 || !records.IsTopic(parts[0]) {
		return nil
	}
	partition, err := strconv.ParseInt(parts[1], 10, 32)
	offset, err2 := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || err2 != nil || partition < 0 || offset < 0 {
		return nil
	}
	return &record.Record{Topic: parts[0], Partition: int32(partition), Offset: offset}
}
