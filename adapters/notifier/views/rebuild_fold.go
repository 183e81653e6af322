package views

import (
	"context"
	"iter"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/outbox"
)

// decoders is how many batches are decoded at the same time.
const decoders = 2

// sheaf is a batch on its way from the log to Redis.
type sheaf struct {
	entries []outbox.Entry
	ready   chan struct{} // closed when what follows is there

	out                          batch
	events, ignored, undecodable int64
	example                      int64
}

// fold folds the positions from Next to To. Reading, decoding and writing go on at
// the same time; the progress rises in the order of positions.
func (r *rebuild) fold(ctx context.Context) error {
	g, working := errgroup.WithContext(ctx)
	work, order := make(chan *sheaf, decoders), make(chan *sheaf, 2*decoders)
	span := outbox.Range{Lo: r.res.Next, Hi: r.res.To}
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return r.read(working, r.log.Range(working, span), work, order)
	})
	for range decoders {
		g.Go(func() error {
			for s := range work {
				r.decode(s)
				close(s.ready)
			}
			return nil
		})
	}
	g.Go(func() error { return r.write(working, order) })
	if err := g.Wait(); err != nil {
		return err
	}
	r.res.Next = max(span.Lo, span.Hi+1)
	return r.save(ctx, true)
}

func (r *rebuild) read(ctx context.Context, entries iter.Seq2[outbox.Entry, error], work, order chan<- *sheaf) error {
	s := &sheaf{ready: make(chan struct{})}
	send := func() error {
		for _, to := range []chan<- *sheaf{work, order} {
			select {
			case to <- s:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		s = &sheaf{ready: make(chan struct{})}
		return nil
	}
	for e, err := range entries {
		if err != nil {
			return err
		}
		if s.entries = append(s.entries, e); len(s.entries) < r.cfg.Batch {
			continue
		}
		if err := send(); err != nil {
			return err
		}
	}
	if len(s.entries) == 0 {
		return nil
	}
	return send()
}

// decode makes the calls that s comes to. What cannot be decoded is a dead letter
// to those who keep the view, and is not in it either.
func (r *rebuild) decode(s *sheaf) {
	events := make([]domain.Recorded, 0, len(s.entries))
	for i := range s.entries {
		e := &s.entries[i]
		if e.Topic != r.cfg.Topic {
			s.ignored++
			continue
		}
		event, err := r.cfg.Decode(headersOf(e), e.Payload)
		if err != nil {
			if s.undecodable++; s.example == 0 {
				s.example = e.Position
			}
			continue
		}
		events = append(events, event)
	}
	newest, done := fold(events)
	s.ignored += int64(done.Ignored)
	s.events = int64(len(events) - done.Ignored)
	r.p.v.write(&s.out, r.p.name, r.res.Generation, newest, false)
}

// headersOf are the headers that the record of e has.
func headersOf(e *outbox.Entry) map[string]string {
	headers := make(map[string]string, len(e.Headers)+6)
	for h := range outbox.RecordHeaders(e) {
		headers[h.Name] = h.Value
	}
	return headers
}

func (r *rebuild) write(ctx context.Context, order <-chan *sheaf) error {
	for s := range order {
		select {
		case <-s.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if len(s.out.calls) > 0 {
			if err := s.out.run(ctx, r.p.v.rdb); err != nil {
				return err
			}
		}
		r.res.Events += s.events
		r.res.Ignored += s.ignored
		r.res.Undecodable += s.undecodable
		if r.res.Example == 0 {
			r.res.Example = s.example
		}
		r.res.Next = s.entries[len(s.entries)-1].Position + 1
		if err := r.save(ctx, false); err != nil {
			return err
		}
		r.measure()
		r.cfg.OnProgress(r.res)
	}
	return nil
}
