package consumer

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/outbox"
)

// keepAll remembers steps as they come, all that have come at once.
func (r *replay) keepAll(ctx context.Context, s *scan, in <-chan *step) error {
	for st := range in {
		steps := []*step{st}
		for more := true; more; {
			select {
			case st, more = <-in:
				if more {
					steps = append(steps, st)
				}
			default:
				more = false
			}
		}
		if err := r.keep(ctx, s, steps); err != nil {
			return err
		}
	}
	return nil
}

// keep counts the steps and remembers what was done: in the book, then as the
// progress of the partition.
func (r *replay) keep(ctx context.Context, s *scan, steps []*step) error {
	var decisions []Decision
	var settled []Letter
	for _, st := range steps {
		for _, it := range st.items {
			note(&s.progress, it, it.fate.settles())
			s.tail, s.tailSettled = it.letter.Record.Offset+1, it.fate.settles()
			if becomes, now := r.becomes(it.fate); now {
				decisions = append(decisions, decision(&it.letter, becomes))
				if becomes != StateReplayed {
					settled = append(settled, it.letter)
				}
			}
		}
		if st.last && s.tailSettled {
			s.progress.add(s.tail, st.end)
		}
	}
	counts := r.tally(s, steps)
	if r.cfg.Execute {
		if err := r.remember(ctx, s, decisions, settled, counts); err != nil {
			return err
		}
	}
	r.cfg.OnProgress(counts)
	return nil
}

// note keeps in p what became of one letter. Offsets before it that hold no
// letter cost nothing: they go with a neighbour.
func note(p *progress, it *item, settled bool) {
	offset := it.letter.Record.Offset
	switch {
	case settled:
		p.add(it.after, offset+1)
	case p.has(it.after - 1), it.after == p.low:
		p.add(it.after, offset)
	}
}

// becomes is the state that the act has just given a letter, if it has.
func (r *replay) becomes(f fate) (s State, now bool) {
	switch f {
	case fateDone, fateDuplicate:
		return r.action.state(), true
	case fateParked:
		return StateParked, true
	}
	return "", false
}

func decision(l *Letter, becomes State) Decision {
	return Decision{
		Partition: l.Record.Partition, Offset: l.Record.Offset, WrittenAt: l.Record.Timestamp,
		State: becomes, Group: l.Group, EventID: lastText(l.Record.Headers, outbox.HeaderEventID),
	}
}

func (r *replay) remember(ctx context.Context, s *scan, decisions []Decision, settled []Letter, counts ReplayResult) error {
	if r.cfg.Quarantine != nil && len(settled) > 0 {
		if err := r.cfg.Quarantine.Settle(ctx, settled); err != nil {
			return fmt.Errorf("let go of what waits behind: %w", err)
		}
	}
	if r.page != nil && len(decisions) > 0 {
		if err := r.page.Write(ctx, decisions, counts); err != nil {
			return fmt.Errorf("write to the book: %w", err)
		}
	}
	encoded, err := s.progress.encode()
	if err != nil && r.page == nil {
		return err
	}
	if err != nil {
		encoded = s.progress.encodeFirst() // the book knows the others
	}
	if s.progress.equal(&s.remembered) {
		return nil
	}
	if err := r.cfg.Reader.Commit(ctx, r.cfg.Topic, r.cfg.ProgressGroup, s.partition, s.progress.low, encoded); err != nil {
		return fmt.Errorf("remember progress: %w", err)
	}
	s.remembered = s.progress.clone()
	return nil
}

// tally adds the steps to the counts.
func (r *replay) tally(s *scan, steps []*step) ReplayResult {
	r.count(func(res *ReplayResult) {
		for _, st := range steps {
			for _, it := range st.items {
				r.countOne(res, it.fate)
			}
			res.Scanned += st.end - s.passed
			s.passed = st.end
		}
	})
	return r.counts()
}

func (r *replay) countOne(res *ReplayResult, f fate) {
	if f != fateSettled {
		res.Letters++
	}
	switch f {
	case fateDone:
		switch r.action {
		case ActionReplay:
			res.Replayed++
		case ActionSkip:
			res.Skipped++
		case ActionDiscard:
			res.Discarded++
		case ActionPark:
			res.Parked++
		}
	case fateParked:
		res.Parked++
	case fateDuplicate:
		res.Duplicates++
	case fateFiltered:
		res.Filtered++
	case fateStays:
		res.Capped++
	case fateRefused:
		res.Refused++
	case fateHeld:
		res.Held++
	}
}
