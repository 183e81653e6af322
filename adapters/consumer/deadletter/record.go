package deadletter

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/outbox"
)

// recordAll records steps as they come, two at once if the second has come
// meanwhile. More would break the promise of stepsAhead.
func (r *run) recordAll(ctx context.Context, s *scan, in <-chan *step) error {
	for st := range in {
		steps := []*step{st}
		for more := true; more && len(steps) < 2; {
			select {
			case st, more = <-in:
				if more {
					steps = append(steps, st)
				}
			default:
				more = false
			}
		}
		if err := r.record(ctx, s, steps); err != nil {
			return err
		}
	}
	return nil
}

// record counts the steps and stores what was done: in the audit log, then as the
// progress of the partition.
func (r *run) record(ctx context.Context, s *scan, steps []*step) error {
	var decisions []Decision
	var released []Message // resolved, and not by a replay
	for _, st := range steps {
		for _, it := range st.items {
			s.progress.addItem(it, it.outcome.isResolved())
			s.tail, s.tailResolved = it.dead.Record.Offset+1, it.outcome.isResolved()
			if state, changed := r.newState(it.outcome); changed {
				decisions = append(decisions, newDecision(&it.dead, state))
				if state != StateReplayed {
					released = append(released, it.dead)
				}
			}
		}
		if st.last && s.tailResolved {
			s.progress.add(s.tail, st.end)
		}
	}
	counts := r.addCounts(s, steps)
	if !r.preview {
		if err := r.store(ctx, s, decisions, released, counts); err != nil {
			return err
		}
	}
	r.cfg.OnProgress(counts)
	return nil
}

// newState is the state that the operation has just given a dead letter, if it has.
func (r *run) newState(o outcome) (s State, changed bool) {
	switch o {
	case resolved, duplicate:
		return r.action.state(), true
	case parked:
		return StateParked, true
	}
	return "", false
}

func newDecision(m *Message, state State) Decision {
	return Decision{
		Partition: m.Record.Partition, Offset: m.Record.Offset, WrittenAt: m.Record.Timestamp,
		State: state, Group: m.Group, EventID: lastText(m.Record.Headers, outbox.HeaderEventID),
	}
}

func (r *run) store(ctx context.Context, s *scan, decisions []Decision, released []Message, counts Result) error {
	if r.cfg.Quarantine != nil && len(released) > 0 {
		if err := r.cfg.Quarantine.Resolve(ctx, released); err != nil {
			return fmt.Errorf("release what the quarantine holds back: %w", err)
		}
	}
	if r.entry != nil && len(decisions) > 0 {
		if err := r.entry.Write(ctx, decisions, counts); err != nil {
			return fmt.Errorf("write to the audit log: %w", err)
		}
	}
	encoded, err := s.progress.encode()
	if err != nil && r.entry == nil {
		return err
	}
	if err != nil {
		encoded = s.progress.encodeFirst() // the audit log knows the others
	}
	if s.progress.equal(&s.committed) {
		return nil
	}
	if err := r.reader.Commit(ctx, r.topic, r.cfg.ProgressGroup, s.partition, s.progress.low, encoded); err != nil {
		return fmt.Errorf("commit progress: %w", err)
	}
	s.committed = s.progress.clone()
	return nil
}

// addCounts adds the steps to the counts.
func (r *run) addCounts(s *scan, steps []*step) Result {
	r.count(func(res *Result) {
		for _, st := range steps {
			for _, it := range st.items {
				r.addCount(res, it.outcome)
			}
			res.Scanned += st.end - s.passed
			s.passed = st.end
		}
	})
	return r.counts()
}

func (r *run) addCount(res *Result, o outcome) {
	if o != wasResolved {
		res.Open++
	}
	switch o {
	case resolved:
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
	case parked:
		res.Parked++
	case duplicate:
		res.Duplicates++
	case notChosen:
		res.Filtered++
	case stays:
		res.Capped++
	case refused:
		res.Refused++
	case held:
		res.Held++
	}
}
