package consumer

import "github.com/millrace-go/millrace/outbox/record"

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
