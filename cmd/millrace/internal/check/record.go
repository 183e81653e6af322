package check

import (
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Record is a record as it stands in Kafka, with the headers decoded that the
// checks need.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       string
	Timestamp time.Time

	EventID   uuid.UUID // zero if the header is missing or no UUID
	EventType string
	Aggregate string // aggregate-id
	Version   int64  // aggregate-version, 0 if absent
	Replayed  bool   // sent again from a dead-letter topic
	Value     []byte
}

// The header names of docs/contract.md, written out here on purpose.
const (
	headerEventID   = "event-id"
	headerEventType = "event-type"
	headerAggregate = "aggregate-id"
	headerVersion   = "aggregate-version"
	headerReplay    = "dlt-replay-id"
	headerWatermill = "_watermill_message_uuid" // the stock forwarder's event id
)

func decode(r *kgo.Record) Record {
	out := Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
		Key: string(r.Key), Timestamp: r.Timestamp, Value: r.Value,
	}
	for _, h := range r.Headers {
		v := string(h.Value)
		switch h.Key {
		case headerEventID:
			out.EventID, _ = uuid.Parse(v)
		case headerWatermill:
			if out.EventID == uuid.Nil {
				out.EventID, _ = uuid.Parse(v)
			}
		case headerEventType:
			out.EventType = v
		case headerReplay:
			out.Replayed = true
		case headerAggregate:
			out.Aggregate = v
		case headerVersion:
			out.Version, _ = strconv.ParseInt(v, 10, 64)
		}
	}
	return out
}
