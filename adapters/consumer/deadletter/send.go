package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/adapters/consumer/internal/delivery"
	"github.com/millrace-go/millrace/adapters/consumer/internal/records"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// sendAll does what is due in each step and hands the step on, whatever came of
// it: what was not done stays open.
func (r *run) sendAll(ctx context.Context, s *scan, in <-chan *step, out chan<- *step) error {
	planned := s.progress.clone()
	for st := range in {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := r.checkFits(&planned, st)
		if err == nil {
			err = r.send(ctx, st)
		}
		out <- st // the recording goroutine takes all there are
		if err != nil {
			return err
		}
	}
	return nil
}

// checkFits refuses a step whose progress could not be committed: what cannot be
// recorded is not done. A quarter of the space is left for dead letters that the
// broker refuses.
func (r *run) checkFits(planned *progress, st *step) error {
	if r.preview || r.cfg.AuditLog != nil {
		return nil
	}
	for _, it := range st.items {
		planned.addItem(it, it.outcome.isResolved() || it.outcome.isDue())
	}
	if _, all := planned.pack(maxProgressBytes * 3 / 4); !all {
		return fmt.Errorf("%w: %d ranges", ErrScattered, len(planned.ranges))
	}
	return nil
}

// send does what is due in a step.
func (r *run) send(ctx context.Context, st *step) error {
	if r.action == ActionReplay {
		r.holdBack(st.items)
	}
	var dues, parkings []*item
	for _, it := range st.items {
		switch it.outcome {
		case due:
			dues = append(dues, it)
		case dueParking:
			parkings = append(parkings, it)
		}
	}
	if r.preview || !r.action.sends() {
		setOutcome(dues, resolved)
		setOutcome(parkings, parked)
		return ctx.Err()
	}
	if n := len(dues) + len(parkings); n > 0 {
		if err := r.pace.wait(ctx, n); err != nil {
			return err
		}
	}
	for len(dues) > 0 { // one call for each series of the same topic
		n := 1
		for n < len(dues) && dues[n].target == dues[0].target {
			n++
		}
		if err := r.deliver(ctx, st, dues[:n]); err != nil {
			return err
		}
		dues = dues[n:]
	}
	return r.parkCapped(ctx, parkings)
}

func setOutcome(items []*item, o outcome) {
	for _, it := range items {
		it.outcome = o
	}
}

// holdBack applies what ByKey asks for: a dead letter that is refused holds back
// the later ones of its key.
func (r *run) holdBack(items []*item) {
	if !r.cfg.ByKey {
		return
	}
	for _, it := range items {
		key := string(it.dead.Record.Key)
		switch {
		case it.dead.Record.Key == nil:
		case it.outcome == refused:
			r.heldKeys[key] = true
		case it.outcome.isDue() && r.heldKeys[key]:
			it.outcome = held
		}
	}
}

// deliver publishes items to their topic in order. If the broker refuses one for
// good, halves are tried until it is found.
func (r *run) deliver(ctx context.Context, st *step, items []*item) error {
	todo := make([]*item, 0, len(items))
	for _, it := range items {
		if it.outcome == due {
			todo = append(todo, it)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	err := r.publish(ctx, todo)
	switch {
	case err == nil:
		setOutcome(todo, resolved)
		return nil
	case !errors.Is(err, outbox.ErrUnpublishable):
		return err
	case len(todo) > 1:
		half := len(todo) / 2
		if err := r.deliver(ctx, st, todo[:half]); err != nil {
			return err
		}
		return r.deliver(ctx, st, todo[half:])
	}
	return r.refuse(st, todo[0], err)
}

// refuse leaves a dead letter that the broker will not take, with those that must
// not overtake it.
func (r *run) refuse(st *step, it *item, why error) error {
	it.outcome = refused
	if r.action == ActionPark {
		return nil
	}
	key := it.dead.Record.Key
	for _, other := range st.items {
		if other.outcome.isDue() && (!r.cfg.ByKey || key != nil && bytes.Equal(key, other.dead.Record.Key)) {
			other.outcome = held
		}
	}
	if r.cfg.ByKey {
		if key != nil {
			r.heldKeys[string(key)] = true
		}
		return nil
	}
	r.count(func(res *Result) {
		res.Stopped = append(res.Stopped, Stop{it.dead.Record.Partition, it.dead.Record.Offset, why.Error()})
	})
	return errStopped
}

// parkCapped parks dead letters that were replayed too often. Without a parking
// topic they stay open.
func (r *run) parkCapped(ctx context.Context, items []*item) error {
	for _, it := range items {
		if it.outcome != dueParking {
			continue
		}
		it.outcome = stays
		if r.noParking[it.target] {
			continue
		}
		switch err := r.publish(ctx, []*item{it}); {
		case err == nil:
			it.outcome = parked
		case !errors.Is(err, outbox.ErrUnpublishable):
			return err
		default:
			if r.noParking == nil {
				r.noParking = map[string]bool{}
			}
			why, _ := errors.AsType[*outbox.UnpublishableError](err)
			r.noParking[it.target] = why != nil && why.Reason != records.ReasonTooLarge
		}
	}
	return nil
}

func (r *run) publish(ctx context.Context, items []*item) error {
	batch := make([]*message.Message, len(items))
	for i, it := range items {
		rec, _ := record.From(it.message.Context())
		it.message.SetContext(record.With(ctx, rec))
		batch[i] = it.message
	}
	return r.publisher.Publish(items[0].target, batch...)
}

// Headers that Spring Kafka counts its own retries and failed decodings by. A
// record that has them would become a dead letter again at once.
const (
	springRetryPrefix = "retry_topic-"
	springDecodeError = "springDeserializerException"
)

// isReplayed reports whether a replayed record keeps a header of its dead letter.
func isReplayed(name string) bool {
	return !isFailureHeader(name) && !isReplayHeader(name) && !isForeign(name) && name != HeaderReplayID &&
		!strings.HasPrefix(name, springRetryPrefix) && !strings.HasPrefix(name, springDecodeError)
}

// replayedMessage is the message to send back for a dead letter. Its context is set
// when it is sent.
func (r *run) replayedMessage(m *Message, target string) *message.Message {
	rec := &record.Record{Topic: target, Partition: m.OriginalPartition, Key: m.Record.Key}
	rec.Headers = make([]record.Header, 0, len(m.Record.Headers)+3)
	for _, h := range m.Record.Headers {
		if isReplayed(h.Key) {
			rec.Headers = append(rec.Headers, h)
		}
	}
	rec.Headers = append(rec.Headers,
		records.Text(HeaderReplayCount, strconv.Itoa(m.ReplayCount+1)),
		records.Text(HeaderReplayID, r.cfg.ID))
	if !r.cfg.AllGroups {
		rec.Headers = append(rec.Headers, records.Text(HeaderTargetGroup, m.Group))
	}
	return records.Message(context.Background(), messageID(m), rec, m.Value)
}

// parkedMessage is the message for the parking topic, and that topic's name.
func (r *run) parkedMessage(m *Message, note string) (topic string, msg *message.Message) {
	source := m.OriginalTopic
	if !slices.Contains(r.cfg.Targets, source) {
		source = r.cfg.Source
	}
	topic = r.cfg.Parking(source)
	rec := &record.Record{Topic: topic, Partition: m.Record.Partition, Key: m.Record.Key}
	rec.Headers = slices.DeleteFunc(slices.Clone(m.Record.Headers), func(h record.Header) bool { return strings.HasPrefix(h.Key, parkedPrefix) })
	rec.Headers = append(rec.Headers,
		records.Text(HeaderParkedAt, time.Now().UTC().Format(time.RFC3339Nano)),
		records.Text(HeaderParkedBy, r.cfg.Actor),
		records.Text(HeaderParkedNote, clip(sanitise(note, false), maxReason)),
		records.Text(HeaderParkedFrom, records.Place(m.Record)))
	return topic, records.Message(context.Background(), messageID(m), rec, m.Value)
}

func messageID(m *Message) string {
	if id := lastText(m.Record.Headers, outbox.HeaderEventID); id != "" {
		return id
	}
	return uuid.NewString()
}

// pacer spreads dead letters over time.
type pacer struct {
	rate int // per second, -1 is no limit
	next time.Time
}

// wait returns when n more dead letters may be sent.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate < 0 {
		return ctx.Err()
	}
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	pause := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	if !delivery.Sleep(ctx, pause) {
		return ctx.Err()
	}
	return nil
}
