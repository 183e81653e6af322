package consumer

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// Headers that Spring Kafka counts its own retries and failed decodings by. A
// record that carries them would at once become a dead letter again.
const (
	springRetryPrefix = "retry_topic-"
	springDecodeError = "springDeserializerException"
)

// travels reports whether a replayed record keeps a header of its letter.
func travels(name string) bool {
	return !isFailureHeader(name) && !isReplayHeader(name) && !isForeign(name) && name != HeaderReplayID &&
		!strings.HasPrefix(name, springRetryPrefix) && !strings.HasPrefix(name, springDecodeError)
}

// message is the record to send back for a letter. Its context is set when it is
// sent.
func (r *replay) message(l *Letter, target string) *message.Message {
	rec := &record.Record{Topic: target, Partition: l.OriginalPartition, Key: l.Record.Key}
	rec.Headers = make([]record.Header, 0, len(l.Record.Headers)+3)
	for _, h := range l.Record.Headers {
		if travels(h.Key) {
			rec.Headers = append(rec.Headers, h)
		}
	}
	rec.Headers = append(rec.Headers,
		text(HeaderReplayCount, strconv.Itoa(l.ReplayCount+1)),
		text(HeaderReplayID, r.cfg.ID))
	if !r.cfg.AllGroups {
		rec.Headers = append(rec.Headers, text(HeaderTargetGroup, l.Group))
	}
	return recordMessage(context.Background(), idOf(l), rec, l.Value)
}

// parked is the record for the parking topic, and that topic's name.
func (r *replay) parked(l *Letter, note string) (topic string, msg *message.Message) {
	source := l.OriginalTopic
	if !slices.Contains(r.cfg.Targets, source) {
		source = r.cfg.Source
	}
	topic = r.cfg.Parking(source)
	rec := &record.Record{Topic: topic, Partition: l.Record.Partition, Key: l.Record.Key}
	rec.Headers = slices.DeleteFunc(slices.Clone(l.Record.Headers), func(h record.Header) bool { return strings.HasPrefix(h.Key, parkedPrefix) })
	rec.Headers = append(rec.Headers,
		text(HeaderParkedAt, time.Now().UTC().Format(time.RFC3339Nano)),
		text(HeaderParkedBy, r.cfg.Actor),
		text(HeaderParkedNote, clip(sanitise(note, false), maxReason)),
		text(HeaderParkedFrom, placeOf(l.Record)))
	return topic, recordMessage(context.Background(), idOf(l), rec, l.Value)
}

func idOf(l *Letter) string {
	if id := lastText(l.Record.Headers, outbox.HeaderEventID); id != "" {
		return id
	}
	return uuid.NewString()
}
