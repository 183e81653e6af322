package inbox

import (
	"cmp"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// item is one message on its way through a transaction.
type item struct {
	msg   *message.Message
	key   string
	keyed bool

	id        uuid.UUID
	partition int32 // where it was first received; -1 if nobody says
	offset    int64
	aggregate uuid.UUID // zero with version 0
	version   int64
	young     bool // by its own clock: it cannot have been folded

	failed bool  // it is left out
	err    error // why; nil if it is behind one of its key that failed
	mine   bool  // reserved by the transaction at work
	before bool  // reserved by one whose COMMIT was not answered
}

// spaces of the ids that are made of something else.
var (
	spacePlace     = uuid.MustParse("6f1d2c0e-5a0b-4b39-9a5e-0b7e3f1c2d41")
	spaceText      = uuid.MustParse("6f1d2c0e-5a0b-4b39-9a5e-0b7e3f1c2d42")
	spaceAggregate = uuid.MustParse("6f1d2c0e-5a0b-4b39-9a5e-0b7e3f1c2d43")
)

// youth is how old an event may be, by its header occurred-at, to be young. What
// MinRetention exceeds it by is how wrong clocks may be.
const youth = time.Hour

func newItem(msg *message.Message, now time.Time) *item {
	it := &item{msg: msg, partition: -1, offset: -1}
	it.key, it.keyed = records.Key(msg)
	if r, ok := record.From(msg.Context()); ok && r.Partition >= 0 && r.Offset >= 0 {
		it.partition, it.offset = deadletter.Origin(r)
	}
	it.id = it.identity()
	if v, err := strconv.ParseInt(msg.Metadata[outbox.HeaderAggregateVersion], 10, 64); err == nil && v > 0 {
		it.version = v
		id := cmp.Or(msg.Metadata[outbox.HeaderAggregateID], it.key)
		it.aggregate = derived(spaceAggregate, msg.Metadata[outbox.HeaderAggregateType]+"\x00"+id)
	}
	if at, err := time.Parse(time.RFC3339Nano, msg.Metadata[outbox.HeaderOccurredAt]); err == nil {
		age := now.Sub(at)
		it.young = age < youth && age > -youth
	}
	return it
}

// identity is the event's id as a UUID. The subscriber's own id of a record that
// has none changes with each delivery; its place does not.
func (it *item) identity() uuid.UUID {
	text := cmp.Or(it.msg.Metadata[outbox.HeaderEventID], it.msg.Metadata[watermillUUID])
	switch {
	case text == "" && it.offset >= 0:
		place := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(it.partition)), uint64(it.offset))
		return uuid.NewSHA1(spacePlace, place)
	case text == "":
		text = it.msg.UUID
	}
	if id, err := uuid.Parse(text); err == nil {
		return id
	}
	return derived(spaceText, text)
}

// watermillUUID is the header in which Watermill's own Kafka publisher puts the
// id of a message.
const watermillUUID = "_watermill_message_uuid"

func derived(space uuid.UUID, text string) uuid.UUID { return uuid.NewSHA1(space, []byte(text)) }
