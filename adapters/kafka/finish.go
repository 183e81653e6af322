package kafka

import (
	"context"
	"time"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/outbox"
)

// drainFor bounds the wait for Sarama to give back all messages behind a shut
// gate, which takes milliseconds.
const drainFor = 10 * time.Second

// finish takes the session down and settles what is left.
func (s *session) finish() {
	defer close(s.ended)
	s.gate.shut()
	s.feeders.Wait()
	s.drain()
	_ = s.client.Close() // fails only if it is closed already

	results := s.verdicts()
	s.mu.Lock()
	left := s.die()
	s.mu.Unlock()
	for _, sl := range left {
		err, ok := results[sl]
		if !ok {
			err = gaveUp(s.cause)
		}
		s.tell(sl, err)
	}
	s.acks.Wait()
	broken := len(results) < len(left)
	if broken {
		s.pub.trouble(gaveUp(s.cause))
	}
	s.pub.detach(s, broken)
}

func (s *session) drain() {
	done := make(chan struct{})
	s.laneMu.Lock()
	lanes := s.lanes
	s.laneMu.Unlock()
	go func() {
		defer close(done)
		for _, l := range lanes {
			l.producer.AsyncClose()
		}
		for _, l := range lanes {
			l.readers.Wait()
		}
	}()
	t := time.NewTimer(drainFor)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

type sentTo struct {
	topic     string
	partition int32
}

// verdicts returns what is known of the messages that Sarama gave back: refused
// for good, or, after sending them one by one, stored after all (nil).
func (s *session) verdicts() map[*slot]error {
	s.mu.Lock()
	failures, dead := s.failures, s.dead
	s.mu.Unlock()
	if dead {
		return nil
	}
	results := map[*slot]error{}
	suspects := map[sentTo][]failure{}
	for _, f := range failures {
		missing := s.missing(f.slot)
		reason, whole := refusal(f.err, missing)
		switch {
		case reason == "" && missing: // given back behind one that was told so
			results[f.slot] = outbox.Unpublishable(reasonUnknownTopic, sarama.ErrUnknownTopicOrPartition)
		case reason == "":
		case whole:
			tp := sentTo{f.slot.msg.Topic, f.slot.msg.Partition}
			suspects[tp] = append(suspects[tp], f)
		default:
			results[f.slot] = outbox.Unpublishable(reason, f.err)
		}
	}
	for tp, batch := range suspects {
		s.pub.topics.forget(tp.topic) // it may have changed
		if f := batch[0]; len(batch) == 1 {
			reason, _ := refusal(f.err, false)
			results[f.slot] = outbox.Unpublishable(reason, f.err)
			continue
		}
		s.resendSingly(batch, results)
	}
	return results
}

func (s *session) missing(sl *slot) bool {
	s.laneMu.Lock()
	l := s.lanes[sl.limit]
	s.laneMu.Unlock()
	return l != nil && l.client.isMissing(sl.msg.Topic)
}

// resendSingly sends the messages of a refused batch one by one, in order, up to
// the first that is refused by itself: the broker refuses a batch whole, and says
// nothing of which message it means.
func (s *session) resendSingly(batch []failure, results map[*slot]error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.mu.Lock()
	s.stopSolo = cancel
	if s.dead {
		cancel()
	}
	s.mu.Unlock()
	single, err := s.pub.connect(ctx)
	if err != nil {
		return
	}
	for _, f := range batch {
		if err = single.sendOne(ctx, f.slot); err == nil || unpublishable(err) {
			results[f.slot] = err
		}
		if err != nil {
			break
		}
	}
	single.mu.Lock()
	single.retire()
	single.mu.Unlock()
	<-single.ended
}

// sendOne sends a copy of sl and waits for the verdict.
func (s *session) sendOne(ctx context.Context, sl *slot) error {
	result := make(chan error, 1)
	b := &batch{slots: make([]slot, 1), ack: func(_ int, err error) { result <- err }}
	b.slots[0] = sl.again(b)
	b.slots[0].msg.Metadata = &b.slots[0]
	if !s.admit(ctx, b) {
		return ErrGaveUp
	}
	s.feed(b)
	return <-result
}
