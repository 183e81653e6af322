package consumer

import (
	"strconv"
	"strings"
	"time"

	"github.com/millrace-go/millrace/outbox/record"
)

// Letter is a dead letter as it lies on its topic, written by this package, by
// Spring Kafka, by a share group of Kafka or by Kafka Connect.
type Letter struct {
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
	FailedAt    time.Time // the record's time if no header tells
	ErrorType   string
	Error       string

	// FailedRecord is the record that failed last, the original one or a replay
	// of it: topic, partition and offset alone. Nil if no header tells.
	FailedRecord *record.Record
	// ValueOmitted reports that the value was too large for the dead-letter
	// topic. It had ValueSize bytes, and FailedRecord has it, unless retention
	// has removed that.
	ValueOmitted bool
	ValueSize    int

	// State is what became of the letter; ReadLetter leaves it open. Decision
	// says more if a Book knows it.
	State    State
	Decision *Decision
}

// ReadLetter reads the headers of a dead letter. Names of headers whose values
// are not valid for their type come back as bad; such values are ignored.
func ReadLetter(rec *record.Record, value []byte) (l Letter, bad []string) {
	o, bad, known := readOrigin(rec.Headers)
	if !known {
		o.partition, o.offset = record.PartitionByKey, -1
	}
	l = Letter{
		Record: rec, Value: value,
		OriginalTopic: o.topic, OriginalPartition: o.partition, OriginalOffset: o.offset, OriginalTimestamp: o.timestamp,
		Group:       o.group,
		Disposition: Disposition(lastText(rec.Headers, HeaderDisposition)),
		FailedAt:    rec.Timestamp,
		ErrorType:   lastText(rec.Headers, HeaderExceptionType),
		Error:       lastText(rec.Headers, HeaderExceptionMessage),
		State:       StateOpen,
	}
	if place := lastText(rec.Headers, HeaderFailedRecord); place != "" {
		if l.FailedRecord = readPlace(place); l.FailedRecord == nil {
			bad = append(bad, HeaderFailedRecord)
		}
	}
	if group := lastText(rec.Headers, HeaderTargetGroup); group != "" {
		l.Group = group
	}
	if at, err := time.Parse(time.RFC3339Nano, lastText(rec.Headers, HeaderFailedAt)); err == nil {
		l.FailedAt = at
	} else if _, has := last(rec.Headers, HeaderFailedAt); has {
		bad = append(bad, HeaderFailedAt)
	}
	var ok bool
	if _, l.ValueOmitted = last(rec.Headers, HeaderValueOmitted); l.ValueOmitted {
		l.ValueSize, _ = readCount(rec.Headers, HeaderValueOmitted)
	}
	if l.Attempts, ok = readCount(rec.Headers, HeaderAttempts); !ok {
		bad = append(bad, HeaderAttempts)
	}
	if l.ReplayCount, ok = readCount(rec.Headers, HeaderReplayCount); !ok {
		bad = append(bad, HeaderReplayCount)
	}
	l.readForeign(&bad)
	return l, bad
}

// readPlace reads "topic/partition/offset", nil if it is none.
func readPlace(place string) *record.Record {
	parts := strings.Split(place, "/")
	if len(parts) != 3 || !topicName.MatchString(parts[0]) {
		return nil
	}
	partition, err := strconv.ParseInt(parts[1], 10, 32)
	offset, err2 := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || err2 != nil || partition < 0 || offset < 0 {
		return nil
	}
	return &record.Record{Topic: parts[0], Partition: int32(partition), Offset: offset}
}
