package deadletter

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// outcome is what an operation does with one dead letter.
type outcome int

const (
	wasResolved outcome = iota // by an earlier operation
	due                        // to be resolved by this operation
	dueParking                 // to be parked, since it was replayed too often
	resolved                   // was due
	parked                     // was dueParking
	duplicate                  // of a dead letter that was met before
	notChosen
	refused
	held
	stays // was dueParking, but there is no parking topic
)

// isResolved reports whether a dead letter of this outcome is no longer open.
func (o outcome) isResolved() bool {
	return o == wasResolved || o == resolved || o == parked || o == duplicate
}

// isDue reports whether a dead letter is still to be worked on.
func (o outcome) isDue() bool { return o == due || o == dueParking }

// item is one dead letter in an operation.
type item struct {
	dead    Message
	after   int64 // offsets between it and this one hold no dead letter
	outcome outcome
	target  string           // topic to send to
	message *message.Message // to send, if any
}

// step is a series of dead letters that are sent and recorded together, in their
// order.
type step struct {
	items []*item
	due   int
	end   int64 // everything below was read
	last  bool  // of its partition
}

// maxStep is the largest number of dead letters that one step sends.
const maxStep = 500

// read hands on the dead letters of a partition in steps.
func (r *run) read(ctx context.Context, s *scan, out chan<- *step) error {
	next := &step{}
	emit := func(end int64) error {
		next.end = end
		select {
		case out <- next:
			next = &step{}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	states := &stateReader{log: r.cfg.AuditLog, topic: r.topic, partition: s.partition, resolved: s.progress.clone()}
	pos, size := s.from, r.stepSize()
	err := r.reader.Read(ctx, r.topic, s.partition, s.from, s.end, func(rec *record.Record, value []byte) error {
		it := &item{after: pos}
		it.dead, _ = Parse(rec, value)
		if err := states.read(ctx, &it.dead); err != nil {
			return err
		}
		if err := r.decide(ctx, s, it); err != nil {
			return err
		}
		next.items, pos = append(next.items, it), rec.Offset+1
		if it.outcome.isDue() {
			next.due++
		}
		if next.due >= size || len(next.items) >= 4*maxStep {
			return emit(pos)
		}
		return nil
	})
	if err != nil {
		return err
	}
	next.last = true
	return emit(s.end)
}

// stepSize is a tenth of a second at the configured rate.
func (r *run) stepSize() int {
	if r.pace.rate < 0 || r.preview {
		return maxStep
	}
	return min(max(r.pace.rate/10, 1), maxStep)
}

// decide says what is to be done with one dead letter.
func (r *run) decide(ctx context.Context, s *scan, it *item) error {
	isCopy := s.recent.isCopy(&it.dead)
	switch {
	case it.dead.State != StateOpen:
		it.outcome = wasResolved
	case !r.cfg.Filter.matches(&it.dead):
		it.outcome = notChosen
	case isCopy:
		it.outcome = duplicate
	case r.cfg.Max > 0 && r.chosen >= r.cfg.Max:
		it.outcome = notChosen
	case r.action == ActionReplay:
		return r.decideReplay(ctx, it)
	default:
		it.outcome = due
		if r.action == ActionPark {
			it.target, it.message = r.parkedMessage(&it.dead, r.cfg.Note)
		}
		r.chosen++
	}
	return nil
}

func (r *run) decideReplay(ctx context.Context, it *item) error {
	m := &it.dead
	target := m.OriginalTopic
	if target == "" {
		target = r.cfg.Source
	}
	if !slices.Contains(r.cfg.Targets, target) || m.Group == "" && !r.cfg.AllGroups {
		it.outcome = refused
		return nil
	}
	if m.ReplayCount >= r.cfg.MaxReplays {
		it.outcome = dueParking
		it.target, it.message = r.parkedMessage(m, "replayed too often")
		r.chosen++
		return nil
	}
	if m.ValueOmitted {
		found, err := r.fetchValue(ctx, m)
		if err != nil || !found {
			it.outcome = refused
			return err
		}
	}
	it.outcome, it.target, it.message = due, target, r.replayedMessage(m, target)
	r.chosen++
	return nil
}

var errFound = errors.New("found")

// fetchValue reads the value of m from the record that, according to m, still has
// it.
func (r *run) fetchValue(ctx context.Context, m *Message) (found bool, err error) {
	at := m.FailedRecord
	if at == nil || !slices.Contains(r.cfg.Targets, at.Topic) {
		return false, nil
	}
	first, end, err := r.reader.Bounds(ctx, at.Topic)
	if err != nil || at.Offset < first[at.Partition] || at.Offset >= end[at.Partition] {
		return false, err
	}
	err = r.reader.Read(ctx, at.Topic, at.Partition, at.Offset, at.Offset+1, func(rec *record.Record, value []byte) error {
		if rec.Offset == at.Offset && len(value) == m.ValueSize && bytes.Equal(rec.Key, m.Record.Key) &&
			lastText(rec.Headers, outbox.HeaderEventID) == lastText(m.Record.Headers, outbox.HeaderEventID) {
			m.Value = bytes.Clone(value)
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}
