package consumer

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/millrace-go/millrace/outbox"
)

// Letter is a dead letter as it lies on its topic, written by this package or by
// Spring Kafka.
type Letter struct {
	// Record is the record itself, Value its value; nil is a tombstone.
	Record *outbox.Record
	Value  []byte

	// Where the message was first consumed. An unknown partition is
	// outbox.PartitionByKey, an unknown offset -1.
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

	// ValueOmitted reports that the value was too large for the dead-letter
	// topic: it is at the origin only, and the letter cannot be replayed.
	ValueOmitted bool
	// Replayed reports that an earlier replay has sent the letter back.
	Replayed bool
}

// ReadLetter reads the headers of a dead letter. Names of headers whose values
// are not valid for their type come back as bad; such values are ignored.
func ReadLetter(rec *outbox.Record, value []byte) (l Letter, bad []string) {
	o, bad, known := readOrigin(rec.Headers)
	if !known {
		o.partition, o.offset = outbox.PartitionByKey, -1
	}
	l = Letter{
		Record: rec, Value: value,
		OriginalTopic: o.topic, OriginalPartition: o.partition, OriginalOffset: o.offset, OriginalTimestamp: o.timestamp,
		Group:       o.group,
		Disposition: Disposition(lastText(rec.Headers, HeaderDisposition)),
		FailedAt:    rec.Timestamp,
		ErrorType:   lastText(rec.Headers, HeaderExceptionType),
		Error:       lastText(rec.Headers, HeaderExceptionMessage),
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
	_, l.ValueOmitted = last(rec.Headers, HeaderValueOmitted)
	if l.Attempts, ok = readCount(rec.Headers, HeaderAttempts); !ok {
		bad = append(bad, HeaderAttempts)
	}
	if l.ReplayCount, ok = readCount(rec.Headers, HeaderReplayCount); !ok {
		bad = append(bad, HeaderReplayCount)
	}
	return l, bad
}

// Filter chooses dead letters; every field that is set must match. The zero value
// matches all.
type Filter struct {
	// Partitions of the dead-letter topic.
	Partitions []int32
	// Offsets from FromOffset up to, but not including, ToOffset; 0 is open.
	FromOffset, ToOffset int64
	// Key is the whole record key; nil matches all.
	Key []byte
	// Group is the consumer group that failed.
	Group string
	// Dispositions, any of them.
	Dispositions []Disposition
	// Error is a part of the error message or of its type.
	Error string
	// ErrorPattern matches the error message.
	ErrorPattern *regexp.Regexp
	// Since and Until bound the time of the failure; Until is excluded.
	Since, Until time.Time
}

// Match reports whether the filter chooses l.
func (f *Filter) Match(l *Letter) bool {
	switch {
	case len(f.Partitions) > 0 && !slices.Contains(f.Partitions, l.Record.Partition),
		l.Record.Offset < f.FromOffset,
		f.ToOffset > 0 && l.Record.Offset >= f.ToOffset,
		f.Key != nil && !bytes.Equal(f.Key, l.Record.Key),
		f.Group != "" && f.Group != l.Group,
		len(f.Dispositions) > 0 && !slices.Contains(f.Dispositions, l.Disposition),
		f.Error != "" && !strings.Contains(l.Error, f.Error) && !strings.Contains(l.ErrorType, f.Error),
		f.ErrorPattern != nil && !f.ErrorPattern.MatchString(l.Error),
		!f.Since.IsZero() && l.FailedAt.Before(f.Since),
		!f.Until.IsZero() && !l.FailedAt.Before(f.Until):
		return false
	}
	return true
}
