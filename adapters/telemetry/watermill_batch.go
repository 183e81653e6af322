package telemetry

import (
	"context"
	"sync"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/millrace-go/millrace/outbox"
)

// tracedBatches is a tracedPublisher over a BatchPublisher.
type tracedBatches struct {
	tracedPublisher
	batch outbox.BatchPublisher
}

// PublishBatch implements outbox.BatchPublisher. ctx goes on as it is: publishers
// may know a leadership by it.
func (p tracedBatches) PublishBatch(ctx context.Context, entries []outbox.Entry, ack func(i int, err error)) {
	topics := byTopic(entries)
	recording := false
	for _, t := range topics {
		t.span = p.start(ctx, t.name, t.links)
		if !t.span.IsRecording() {
			continue
		}
		recording = true
		if t.open > 1 {
			t.span.SetAttributes(semconv.MessagingBatchMessageCount(t.open))
		} else {
			t.span.SetAttributes(messageAttrs(&entries[t.first].Message)...)
		}
	}
	if !recording {
		for _, t := range topics {
			t.span.End()
		}
		p.batch.PublishBatch(ctx, entries, ack)
		return
	}
	which := whichTopic(entries, topics)
	p.batch.PublishBatch(ctx, entries, func(i int, err error) {
		t := topics[0]
		if which != nil {
			t = topics[which[i]]
		}
		t.acked(err)
		ack(i, err)
	})
}

// sending is the part of a batch that goes to one topic.
type sending struct {
	name  string
	first int // index of its first entry
	links []oteltrace.Link
	span  oteltrace.Span

	mu   sync.Mutex
	open int
	err  error // the first
}

// byTopic groups entries, in the order of their first.
func byTopic(entries []outbox.Entry) []*sending {
	var topics []*sending
	var t *sending
	for i := range entries {
		e := &entries[i]
		if t == nil || t.name != e.Topic {
			t = find(topics, e.Topic)
		}
		if t == nil {
			t = &sending{name: e.Topic, first: i}
			topics = append(topics, t)
		}
		t.open++
		if len(e.Headers) > 0 {
			t.links = link(t.links, len(entries)-i, e.Headers)
		}
	}
	return topics
}

func find(topics []*sending, name string) *sending {
	for _, t := range topics {
		if t.name == name {
			return t
		}
	}
	return nil
}

// whichTopic gives each entry the index of its topic; nil if there is only one.
func whichTopic(entries []outbox.Entry, topics []*sending) []int32 {
	if len(topics) == 1 {
		return nil
	}
	index := make(map[string]int32, len(topics))
	for i, t := range topics {
		index[t.name] = int32(i)
	}
	which := make([]int32, len(entries))
	for i := range entries {
		which[i] = index[entries[i].Topic]
	}
	return which
}

// acked takes one verdict, and ends the span with the last.
func (s *sending) acked(err error) {
	s.mu.Lock()
	s.open--
	last := s.open == 0
	if s.err == nil {
		s.err = err
	}
	err = s.err
	s.mu.Unlock()
	if !last {
		return
	}
	if err != nil {
		fail(s.span, err)
	}
	s.span.End()
}
