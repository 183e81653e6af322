package deadletter

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-go/millrace/outbox/record"
)

// Headers of a dead letter that Spring Kafka defines. Partition is 4 bytes, and
// offset and timestamp (milliseconds) are 8 bytes, big-endian; the others are
// UTF-8 text.
const (
	HeaderOriginalTopic         = "kafka_dlt-original-topic"
	HeaderOriginalPartition     = "kafka_dlt-original-partition"
	HeaderOriginalOffset        = "kafka_dlt-original-offset"
	HeaderOriginalTimestamp     = "kafka_dlt-original-timestamp"
	HeaderOriginalTimestampType = "kafka_dlt-original-timestamp-type"
	HeaderOriginalGroup         = "kafka_dlt-original-consumer-group"
	HeaderExceptionType         = "kafka_dlt-exception-fqcn"
	HeaderExceptionCauseType    = "kafka_dlt-exception-cause-fqcn"
	HeaderExceptionMessage      = "kafka_dlt-exception-message"
	HeaderExceptionStacktrace   = "kafka_dlt-exception-stacktrace"
)

// Headers of a dead letter that are ours. All are UTF-8 text.
const (
	HeaderAttempts    = "dlt-attempts"     // deliveries to the handler, decimal
	HeaderDisposition = "dlt-disposition"  // a Disposition
	HeaderFailedAt    = "dlt-failed-at"    // RFC 3339, UTC
	HeaderReplayCount = "dlt-replay-count" // replays so far, decimal
	HeaderTargetGroup = "dlt-target-group" // the group that failed; on a replayed record the only one to handle it
	HeaderReplayID    = "dlt-replay-id"    // the replay that sent the record
	// HeaderFailedRecord is the record that failed last, "topic/partition/offset":
	// the original one or a replay of it.
	HeaderFailedRecord = "dlt-failed-record"
	// HeaderValueOmitted is the size of a value that was too large for the
	// dead-letter topic, decimal; the value is at HeaderFailedRecord only.
	HeaderValueOmitted = "dlt-value-omitted"
)

// Headers that a dead letter gets when it is moved to its parking topic. All are
// UTF-8 text.
const (
	HeaderParkedAt   = "dlt-parked-at"   // RFC 3339, UTC
	HeaderParkedBy   = "dlt-parked-by"   // Config.Actor
	HeaderParkedNote = "dlt-parked-note" // Config.Note, or why a replay did not send it
	// HeaderParkedFrom is where it was before, "topic/partition/offset".
	HeaderParkedFrom = "dlt-parked-from"
)

const parkedPrefix = "dlt-parked-"

const (
	originalPrefix     = "kafka_dlt-original-"
	exceptionPrefix    = "kafka_dlt-exception-"
	keyExceptionPrefix = "kafka_dlt-key-exception-"
	createTime         = "CreateTime" // Java's name; consumers in Go do not learn the type
)

// isFailureHeader reports headers that describe a failure, not the message.
func isFailureHeader(name string) bool {
	switch name {
	case HeaderAttempts, HeaderDisposition, HeaderFailedAt, HeaderFailedRecord, HeaderValueOmitted:
		return true
	}
	return strings.HasPrefix(name, exceptionPrefix) || strings.HasPrefix(name, keyExceptionPrefix) || strings.HasPrefix(name, parkedPrefix)
}

// isReplayHeader reports headers that control a replay.
func isReplayHeader(name string) bool {
	return name == HeaderReplayCount || name == HeaderTargetGroup
}

func int32BE(name string, v int32) record.Header {
	return record.Header{Key: name, Value: binary.BigEndian.AppendUint32(nil, uint32(v))}
}

func int64BE(name string, v int64) record.Header {
	return record.Header{Key: name, Value: binary.BigEndian.AppendUint64(nil, uint64(v))}
}

// first returns the value of the first header called name; Spring appends, so
// the first is the oldest.
func first(hs []record.Header, name string) ([]byte, bool) {
	i := slices.IndexFunc(hs, func(h record.Header) bool { return h.Key == name })
	if i < 0 {
		return nil, false
	}
	return hs[i].Value, true
}

// last returns the value of the last header called name.
func last(hs []record.Header, name string) ([]byte, bool) {
	for _, h := range slices.Backward(hs) {
		if h.Key == name {
			return h.Value, true
		}
	}
	return nil, false
}

func lastText(hs []record.Header, name string) string {
	v, _ := last(hs, name)
	return string(v)
}

// Origin returns where the message of rec was first received: what the headers of
// a replayed dead letter say, or else the record's own place. Headers that name
// another topic or partition, or an offset that is not before the record's own,
// are not believed: only records of the past can be replayed.
func Origin(rec *record.Record) (partition int32, offset int64) {
	o, _, ok := readOrigin(rec.Headers)
	if ok && o.topic == rec.Topic && o.partition == rec.Partition && o.offset < rec.Offset {
		return o.partition, o.offset
	}
	return rec.Partition, rec.Offset
}

// origin is where a message was first consumed.
type origin struct {
	topic     string
	partition int32
	offset    int64
	timestamp time.Time
	group     string
}

// readOrigin reads the kafka_dlt-original-* headers. It returns the names of the
// headers that are there but not valid, and whether topic, partition and offset
// are all there and valid.
func readOrigin(hs []record.Header) (o origin, bad []string, ok bool) {
	topic, hasTopic := first(hs, HeaderOriginalTopic)
	partition, hasPartition := readInt(hs, HeaderOriginalPartition, 4, &bad)
	offset, hasOffset := readInt(hs, HeaderOriginalOffset, 8, &bad)
	if millis, has := readInt(hs, HeaderOriginalTimestamp, 8, &bad); has {
		o.timestamp = time.UnixMilli(millis).UTC()
	}
	group, _ := first(hs, HeaderOriginalGroup)
	if hasTopic && len(topic) == 0 {
		bad, hasTopic = append(bad, HeaderOriginalTopic), false
	}
	o.topic, o.partition, o.offset, o.group = string(topic), int32(partition), offset, string(group)
	return o, bad, hasTopic && hasPartition && hasOffset
}

// readInt reads a big-endian integer of size bytes that must not be negative.
func readInt(hs []record.Header, name string, size int, bad *[]string) (int64, bool) {
	v, ok := first(hs, name)
	if !ok {
		return 0, false
	}
	n := int64(-1)
	switch {
	case len(v) == 4 && size == 4:
		n = int64(int32(binary.BigEndian.Uint32(v)))
	case len(v) == 8 && size == 8:
		n = int64(binary.BigEndian.Uint64(v))
	}
	if n < 0 {
		*bad = append(*bad, name)
		return 0, false
	}
	return n, true
}

// readCount reads a decimal header; absent counts as 0, and false means that the
// value is not a number.
func readCount(hs []record.Header, name string) (int, bool) {
	v, ok := last(hs, name)
	if !ok {
		return 0, true
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(v)))
	if err != nil || n < 0 {
		return 0, false
	}
	return n, true
}
