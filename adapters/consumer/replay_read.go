package consumer

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/record"
)

// fate is what an act does with one letter.
type fate int

const (
	fateSettled   fate = iota // was dealt with before
	fateDue                   // to be dealt with as the act says
	fateCapped                // to be parked, since it was replayed too often
	fateDone                  // was due, and is done
	fateParked                // was capped, and is parked
	fateDuplicate             // of a letter that was met before
	fateFiltered
	fateRefused
	fateHeld
	fateStays // capped, and nowhere to park it
)

// settles reports whether a letter of this fate is not offered again.
func (f fate) settles() bool {
	return f == fateSettled || f == fateDone || f == fateParked || f == fateDuplicate
}

// item is one letter on its way through an act.
type item struct {
	letter Letter
	after  int64 // offsets between it and this one hold no letter
	fate   fate
	to     string           // topic to send to
	msg    *message.Message // to send, if any
}

// step is letters that are sent and remembered together, in their order.
type step struct {
	items []*item
	due   int
	end   int64 // everything below was read
	last  bool  // of its partition
}

// read hands on the letters of a partition in steps.
func (r *replay) read(ctx context.Context, s *scan, out chan<- *step) error {
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
	known := &ledger{book: r.cfg.Book, topic: r.cfg.Topic, partition: s.partition, done: s.progress.clone()}
	pos, size := s.from, r.batchSize()
	err := r.cfg.Reader.Read(ctx, r.cfg.Topic, s.partition, s.from, s.end, func(rec *record.Record, value []byte) error {
		l, _ := ReadLetter(rec, value)
		if err := known.state(ctx, &l); err != nil {
			return err
		}
		it := &item{letter: l, after: pos}
		if err := r.judge(ctx, s, it); err != nil {
			return err
		}
		next.items, pos = append(next.items, it), rec.Offset+1
		if it.fate == fateDue || it.fate == fateCapped {
			next.due++
		}
		if next.due >= size || len(next.items) >= 4*maxReplayBatch {
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

// batchSize is a tenth of a second at the given rate.
func (r *replay) batchSize() int {
	if r.pace.rate < 0 || !r.cfg.Execute {
		return maxReplayBatch
	}
	return min(max(r.pace.rate/10, 1), maxReplayBatch)
}

// judge decides on one letter.
func (r *replay) judge(ctx context.Context, s *scan, it *item) error {
	l := &it.letter
	twin := s.seen.met(l)
	switch {
	case l.State != StateOpen:
		it.fate = fateSettled
	case !r.cfg.Filter.Match(l):
		it.fate = fateFiltered
	case twin:
		it.fate = fateDuplicate
	case r.cfg.Max > 0 && r.chosen >= r.cfg.Max:
		it.fate = fateFiltered
	case r.action == ActionReplay:
		return r.judgeReplay(ctx, it)
	default:
		it.fate = fateDue
		if r.action == ActionPark {
			it.to, it.msg = r.parked(l, r.cfg.Note)
		}
		r.chosen++
	}
	return nil
}

func (r *replay) judgeReplay(ctx context.Context, it *item) error {
	l := &it.letter
	target := l.OriginalTopic
	if target == "" {
		target = r.cfg.Source
	}
	if !slices.Contains(r.cfg.Targets, target) || l.Group == "" && !r.cfg.AllGroups {
		it.fate = fateRefused
		return nil
	}
	if l.ReplayCount >= r.cfg.MaxReplays {
		it.fate = fateCapped
		it.to, it.msg = r.parked(l, "replayed too often")
		r.chosen++
		return nil
	}
	if l.ValueOmitted {
		found, err := r.fetchValue(ctx, l)
		if err != nil || !found {
			it.fate = fateRefused
			return err
		}
	}
	it.fate, it.to, it.msg = fateDue, target, r.message(l, target)
	r.chosen++
	return nil
}

var errFound = errors.New("found")

// fetchValue reads the value of l from where the letter says it still lies.
func (r *replay) fetchValue(ctx context.Context, l *Letter) (found bool, err error) {
	at := l.FailedRecord
	if at == nil || !slices.Contains(r.cfg.Targets, at.Topic) {
		return false, nil
	}
	first, end, err := r.cfg.Reader.Bounds(ctx, at.Topic)
	if err != nil || at.Offset < first[at.Partition] || at.Offset >= end[at.Partition] {
		return false, err
	}
	err = r.cfg.Reader.Read(ctx, at.Topic, at.Partition, at.Offset, at.Offset+1, func(rec *record.Record, value []byte) error {
		if rec.Offset == at.Offset && len(value) == l.ValueSize && bytes.Equal(rec.Key, l.Record.Key) &&
			lastText(rec.Headers, outbox.HeaderEventID) == lastText(l.Record.Headers, outbox.HeaderEventID) {
			l.Value = bytes.Clone(value)
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// recentSize is how many letters back a second copy of one is looked for. Copies
// come from a crash between the broker's acknowledgement of a dead letter and the
// commit of its source, so they lie near each other.
const recentSize = 8192

// identity is what two copies of one dead letter have in common.
type identity struct {
	topic     string
	partition int32
	offset    int64
	group     string
}

// recent knows the last letters of a partition.
type recent struct {
	known map[identity]struct{}
	ring  []identity
	at    int
}

func newRecent() *recent { return &recent{known: map[identity]struct{}{}} }

// met remembers l and reports whether it was met before: the same failure of the
// same record. The origin would not do, since all replays of a message share it.
func (m *recent) met(l *Letter) bool {
	if l.FailedRecord == nil {
		return false
	}
	id := identity{l.FailedRecord.Topic, l.FailedRecord.Partition, l.FailedRecord.Offset, l.Group}
	if _, known := m.known[id]; known {
		return true
	}
	m.known[id] = struct{}{}
	if len(m.ring) < recentSize {
		m.ring = append(m.ring, id)
		return false
	}
	delete(m.known, m.ring[m.at])
	m.ring[m.at], m.at = id, (m.at+1)%recentSize
	return false
}
