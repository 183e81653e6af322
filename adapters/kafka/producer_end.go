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

// finish closes the client and answers the messages that have no verdict yet.
func (p *producer) finish() {
	defer close(p.ended)
	p.gate.shut()
	p.feeders.Wait()
	p.drain()
	_ = p.client.Close() // fails only if it is closed already

	results := p.verdicts()
	p.mu.Lock()
	left := p.takeUnanswered()
	p.mu.Unlock()
	for _, m := range left {
		err, ok := results[m]
		if !ok {
			err = gaveUp(p.cause)
		}
		p.answer(m, err)
	}
	p.acks.Wait()
	broken := len(results) < len(left)
	if broken {
		p.pub.unreachable(gaveUp(p.cause))
	}
	p.pub.detach(p, broken)
}

// drain waits until Sarama has given back every message.
func (p *producer) drain() {
	done := make(chan struct{})
	p.sizedMu.Lock()
	sized := p.sized
	p.sizedMu.Unlock()
	go func() {
		defer close(done)
		for _, sp := range sized {
			sp.async.AsyncClose()
		}
		for _, sp := range sized {
			sp.readers.Wait()
		}
	}()
	t := time.NewTimer(drainFor)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// sentTo is where a batch was sent.
type sentTo struct {
	topic     string
	partition int32
}

// verdicts returns what is known about the messages that Sarama gave back: refused
// for good, or stored after all (nil) when they were sent again one by one.
func (p *producer) verdicts() map[*outgoing]error {
	p.mu.Lock()
	failures, decided := p.failures, p.decided
	p.mu.Unlock()
	if decided {
		return nil
	}
	results := map[*outgoing]error{}
	suspects := map[sentTo][]failure{}
	for _, f := range failures {
		missing := p.missing(f.message)
		reason, whole := refusal(f.err, missing)
		switch {
		case reason == "" && missing: // it was queued behind one that failed for that
			results[f.message] = outbox.Unpublishable(reasonUnknownTopic, sarama.ErrUnknownTopicOrPartition)
		case reason == "":
		case whole:
			tp := sentTo{f.message.msg.Topic, f.message.msg.Partition}
			suspects[tp] = append(suspects[tp], f)
		default:
			results[f.message] = outbox.Unpublishable(reason, f.err)
		}
	}
	for tp, batch := range suspects {
		p.pub.topics.forget(tp.topic) // it may have changed
		if f := batch[0]; len(batch) == 1 {
			reason, _ := refusal(f.err, false)
			results[f.message] = outbox.Unpublishable(reason, f.err)
			continue
		}
		p.resendSingly(batch, results)
	}
	return results
}

// missing reports whether brokers have said for long enough that the topic of m
// does not exist.
func (p *producer) missing(m *outgoing) bool {
	p.sizedMu.Lock()
	sp := p.sized[m.limit]
	p.sizedMu.Unlock()
	return sp != nil && sp.client.isMissing(m.msg.Topic)
}

// resendSingly sends the messages of a refused batch one by one, in order, up to
// the first that is refused by itself. The broker refuses a batch as a whole and
// does not say which message is at fault.
func (p *producer) resendSingly(batch []failure, results map[*outgoing]error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.mu.Lock()
	p.stopResend = cancel
	if p.decided {
		cancel()
	}
	p.mu.Unlock()
	single, err := p.pub.connect(ctx)
	if err != nil {
		return
	}
	for _, f := range batch {
		if err = single.sendOne(ctx, f.message); err == nil || unpublishable(err) {
			results[f.message] = err
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

// sendOne sends a copy of m and waits for the verdict.
func (p *producer) sendOne(ctx context.Context, m *outgoing) error {
	result := make(chan error, 1)
	b := &batch{messages: make([]outgoing, 1), ack: func(_ int, err error) { result <- err }}
	b.messages[0] = m.again(b)
	b.messages[0].msg.Metadata = &b.messages[0]
	if !p.admit(ctx, b) {
		return ErrGaveUp
	}
	p.feed(b)
	return <-result
}
