package demo

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
)

// observer reads Kafka from outside: the topic and its dead letters, from where
// they ended when the demonstration began.
type observer struct {
	s     *show
	tally *check.Tally
	from  map[string]check.Offsets

	mu      sync.Mutex
	dead    map[uuid.UUID]struct{}
	revived map[uuid.UUID]struct{}
	passed  map[string]int64 // records seen by topic
}

func newObserver(ctx context.Context, s *show) (*observer, error) {
	o := &observer{
		s: s, tally: check.NewTally(), from: map[string]check.Offsets{},
		dead: map[uuid.UUID]struct{}{}, revived: map[uuid.UUID]struct{}{}, passed: map[string]int64{},
	}
	for _, t := range []string{s.topic, s.dead} {
		ends, err := s.broker.Ends(ctx, t)
		if err != nil {
			return nil, err
		}
		o.from[t] = ends
	}
	return o, nil
}

func (o *observer) follow(ctx context.Context) error {
	return o.s.broker.Follow(ctx, o.from, o.see)
}

func (o *observer) see(r check.Record) {
	if r.Topic == o.s.topic && !r.Replayed && o.tally.Deliver(r) {
		o.s.load.arrived(version{r.Aggregate, r.Version})
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.passed[r.Topic]++
	switch {
	case r.Topic == o.s.dead:
		o.dead[r.EventID] = struct{}{}
	case r.Replayed:
		o.revived[r.EventID] = struct{}{}
	}
}

func (o *observer) deadLetters() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return int64(len(o.dead))
}

func (o *observer) replayed() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return int64(len(o.revived))
}

// caughtUp reports that everything committed has arrived and been handled.
func (o *observer) caughtUp(ctx context.Context, poison int64) bool {
	return int64(o.tally.Seen()) >= o.s.load.committed.Load() && o.deadLetters() >= poison && o.handled(ctx)
}

// handled reports that the consumers have committed everything in the topic, and
// that nothing is left to be sent.
func (o *observer) handled(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, group := range []string{o.s.pipe.group, o.s.pipe.sending.group} {
		if lag, err := o.s.broker.GroupLag(ctx, group, o.s.topic); err != nil || lag > 0 {
			return false
		}
	}
	left, err := o.s.unsent(ctx)
	return err == nil && left == 0
}

// lastRecords waits until the observer has read to the end of both topics, now
// that nobody writes any more.
func (s *show) lastRecords(ctx context.Context) error {
	ends := map[string]int64{}
	for _, t := range []string{s.topic, s.dead} {
		o, err := s.broker.Ends(ctx, t)
		if err != nil {
			return err
		}
		ends[t] = o.Sum() - s.obs.from[t].Sum()
	}
	return s.watch(ctx, nil, func() bool {
		s.obs.mu.Lock()
		defer s.obs.mu.Unlock()
		return s.obs.passed[s.topic] >= ends[s.topic] && s.obs.passed[s.dead] >= ends[s.dead]
	})
}
