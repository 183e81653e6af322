package kafka

import (
	"sync"

	"github.com/IBM/sarama"
)

// sizedProducer is the Sarama producer for the topics of one size limit. Sarama has
// one limit for all topics of a producer, and the broker refuses a batch that is
// larger than its topic allows as a whole.
type sizedProducer struct {
	owner   *producer
	limit   int
	client  *steadyClient
	async   sarama.AsyncProducer
	check   chan struct{}  // see gate.barrier
	readers sync.WaitGroup // end when the producer has given everything back
}

// sizedFor returns the sizedProducer of limit, created when it is first needed; nil
// if the producer ends.

func (p *producer) sizedFor(limit int) *sizedProducer {
	p.sizedMu.Lock()
	defer p.sizedMu.Unlock()
	if sp := p.sized[limit]; sp != nil {
		return sp
	}
	sp := p.newSized(limit)
	if sp != nil {
		p.sized[limit] = sp
	}
	return sp
}

func (p *producer) newSized(limit int) *sizedProducer {
	conf := *p.conf
	conf.Producer.MaxMessageBytes = limit
	sp := &sizedProducer{owner: p, limit: limit, check: make(chan struct{}), client: &steadyClient{
		Client: p.client, conf: &conf, gate: p.gate, backoff: p.pub.cfg.backoff, report: p.pub.unreachable, missing: map[string]bool{},
	}}
	for n := 1; ; n++ {
		producer, err := sarama.NewAsyncProducerFromClient(sp.client)
		if err == nil {
			sp.async = producer
			break
		}
		p.pub.unreachable(err)
		if !p.gate.wait(p.pub.cfg.backoff(n)) {
			return nil
		}
		_ = p.client.RefreshMetadata() // brokers may have moved; the next attempt reports it
	}
	p.gate.addCheck(sp.check)
	sp.readers.Go(sp.readSuccesses)
	sp.readers.Go(sp.readErrors)
	return sp
}

func (sp *sizedProducer) readSuccesses() {
	for stored := range sp.async.Successes() {
		if m, ok := stored.Metadata.(*outgoing); ok {
			sp.owner.succeed(m)
		}
	}
}

// readErrors must never wait for anything but the producer's mutex, because every
// write to the network waits for it: see gate.barrier.
func (sp *sizedProducer) readErrors() {
	for {
		select {
		case e, ok := <-sp.async.Errors():
			if !ok {
				return
			}
			if m, ok := e.Msg.Metadata.(*outgoing); ok {
				sp.owner.failed(m, e.Err)
			}
		case <-sp.check:
		}
	}
}
