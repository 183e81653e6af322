package kafka

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox"
)

// octets is a Sarama Encoder whose pointer costs no allocation.
type octets []byte

var _ sarama.Encoder = (*octets)(nil)

func (o *octets) Encode() ([]byte, error) { return *o, nil }
func (o *octets) Length() int             { return len(*o) }

// The names of our own headers, shared by all messages. Sarama only reads them.
var (
	nameEventID          = []byte(outbox.HeaderEventID)
	nameEventType        = []byte(outbox.HeaderEventType)
	nameAggregateType    = []byte(outbox.HeaderAggregateType)
	nameAggregateID      = []byte(outbox.HeaderAggregateID)
	nameAggregateVersion = []byte(outbox.HeaderAggregateVersion)
	nameOccurredAt       = []byte(outbox.HeaderOccurredAt)
)

// wire is one message in the form that Sarama sends, with its parts in one
// allocation.
type wire struct {
	msg        sarama.ProducerMessage
	key, value octets
}

func (w *wire) set(topic string, key, value []byte, headers []sarama.RecordHeader) {
	w.msg.Topic, w.msg.Headers = topic, headers
	if key != nil {
		w.key = key
		w.msg.Key = &w.key
	}
	if value != nil { // a nil Encoder is a null value on the wire
		w.value = value
		w.msg.Value = &w.value
	}
}

// size is the record's part of a batch in bytes, rounded up as Sarama does.
func (w *wire) size() int { return w.msg.ByteSize(2) }

// recordOverhead is what Sarama counts for a record in addition to its contents.
const recordOverhead = 5*binary.MaxVarintLen32 + binary.MaxVarintLen64 + 1

// entrySize is the size that the wire form of e will have, or a little more.
func entrySize(e *outbox.Entry) int {
	size := recordOverhead + len(e.Key) + len(e.Payload)
	header := func(name string, value int) { size += len(name) + value + 2*binary.MaxVarintLen32 }
	header(outbox.HeaderEventID, 36)
	header(outbox.HeaderEventType, len(e.Type))
	header(outbox.HeaderAggregateType, len(e.AggregateType))
	header(outbox.HeaderAggregateID, len(e.AggregateID))
	header(outbox.HeaderAggregateVersion, 20)
	header(outbox.HeaderOccurredAt, 35)
	for name, value := range e.Headers {
		header(name, len(value))
	}
	return size
}

// arena holds the texts and headers of the messages of one batch, so that a
// message needs no allocation of its own.
type arena struct {
	texts   []byte
	headers []sarama.RecordHeader
}

const (
	fixedHeaders = 6
	fixedText    = 36 + 20 + 35 // event id, version, timestamp
)

// newArena returns an arena with room for the entries. It grows if they need more.
func newArena(entries []outbox.Entry) *arena {
	texts, headers := 0, 0
	for i := range entries {
		m := &entries[i].Message
		texts += fixedText + len(m.Key) + len(m.Type) + len(m.AggregateType) + len(m.AggregateID)
		headers += fixedHeaders + len(m.Headers)
		for name, value := range m.Headers {
			texts += len(name) + len(value)
		}
	}
	return &arena{texts: make([]byte, 0, texts), headers: make([]sarama.RecordHeader, 0, headers)}
}

func (a *arena) text(s string) []byte {
	from := len(a.texts)
	a.texts = append(a.texts, s...)
	return slices.Clip(a.texts[from:])
}

func (a *arena) header(name []byte, value string) {
	if value != "" {
		a.headers = append(a.headers, sarama.RecordHeader{Key: name, Value: a.text(value)})
	}
}

func (a *arena) uuid(id uuid.UUID) []byte {
	from := len(a.texts)
	b := hex.AppendEncode(a.texts, id[:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		b = hex.AppendEncode(append(b, '-'), part)
	}
	a.texts = b
	return slices.Clip(b[from:])
}

// entry writes e into w, with the headers of outbox.RecordHeaders.
func (a *arena) entry(w *wire, e *outbox.Entry) {
	from := len(a.headers)
	a.headers = append(a.headers, sarama.RecordHeader{Key: nameEventID, Value: a.uuid(e.ID)})
	a.header(nameEventType, e.Type)
	a.header(nameAggregateType, e.AggregateType)
	a.header(nameAggregateID, e.AggregateID)
	if e.AggregateVersion > 0 {
		at := len(a.texts)
		a.texts = strconv.AppendInt(a.texts, e.AggregateVersion, 10)
		a.headers = append(a.headers, sarama.RecordHeader{Key: nameAggregateVersion, Value: slices.Clip(a.texts[at:])})
	}
	if _, set := e.Headers[outbox.HeaderOccurredAt]; !set {
		at := len(a.texts)
		a.texts = e.CreatedAt.UTC().AppendFormat(a.texts, time.RFC3339Nano)
		a.headers = append(a.headers, sarama.RecordHeader{Key: nameOccurredAt, Value: slices.Clip(a.texts[at:])})
	}
	own := len(a.headers)
	for name, value := range e.Headers {
		if !outbox.ReservedHeader(name) {
			a.headers = append(a.headers, sarama.RecordHeader{Key: a.text(name), Value: a.text(value)})
		}
	}
	sortHeaders(a.headers[own:])
	w.set(e.Topic, a.text(e.Key), e.Payload, slices.Clip(a.headers[from:]))
}

// sortHeaders makes the order of headers the same in every run.
func sortHeaders(headers []sarama.RecordHeader) {
	for i := 1; i < len(headers); i++ {
		for j := i; j > 0 && string(headers[j].Key) < string(headers[j-1].Key); j-- {
			headers[j], headers[j-1] = headers[j-1], headers[j]
		}
	}
}

// placed is what a ProducerMessage's Metadata implements to ask for a partition.
type placed interface {
	// partition returns a negative number to be placed by key.
	partition() int32
}

// partitioner sends a message to the partition that its record asks for, if the topic
// has it, and by the murmur2 hash of its key otherwise.
type partitioner struct{ byKey sarama.Partitioner }

// newPartitioner returns the partitioner of the safe profile: the partition of
// a record.Record if the message has one and the topic is that wide, else the
// key's murmur2 hash as Java's producer computes it. A message without a key
// goes to a random partition.
func newPartitioner(topic string) sarama.Partitioner {
	return &partitioner{byKey: sarama.NewMurmur2Partitioner(topic)}
}

func explicit(msg *sarama.ProducerMessage) int32 {
	if p, ok := msg.Metadata.(placed); ok {
		return p.partition()
	}
	return -1
}

func (p *partitioner) Partition(msg *sarama.ProducerMessage, partitions int32) (int32, error) {
	if want := explicit(msg); want >= 0 && want < partitions {
		return want, nil
	}
	return p.byKey.Partition(msg, partitions)
}

func (p *partitioner) RequiresConsistency() bool { return true }

// MessageRequiresConsistency makes a message with a key or a partition wait for
// its partition's leader instead of moving to a partition that has one.
func (p *partitioner) MessageRequiresConsistency(msg *sarama.ProducerMessage) bool {
	return msg.Key != nil || explicit(msg) >= 0
}

// placesAsJava reports whether a partitioner puts some keys where Java puts them.
func placesAsJava(construct sarama.PartitionerConstructor) bool {
	p := construct("probe")
	if p == nil || !p.RequiresConsistency() {
		return false
	}
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "abc": 479470107} {
		const partitions = 1_000_003
		got, err := p.Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key)}, partitions)
		if err != nil || got != (hash&0x7fffffff)%partitions {
			return false
		}
	}
	return true
}
