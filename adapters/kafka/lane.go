package kafka

import (
	"sync"

	"github.com/IBM/sarama"
)

// lane is a producer for topics of one size limit. Sarama has one limit for all
// topics of a producer, and a batch larger than its topic allows would be refused
// whole.
type lane struct {
	session  *session
	limit    int
	client   *steadyClient
	producer sarama.AsyncProducer
	check    chan struct{}  // see gate.barrier
	readers  sync.WaitGroup // end when the producer has given everything back
}

// lane returns the lane of limit, made on first use; nil if the session ends.
func (s *session) lane(limit int) *lane {
	s.laneMu.Lock()
	defer s.laneMu.Unlock()
	if l := s.lanes[limit]; l != nil {
		return l
	}
	l := s.newLane(limit)
	if l != nil {
		s.lanes[limit] = l
	}
	return l
}

func (s *session) newLane(limit int) *lane {
	conf := *s.conf
	conf.Producer.MaxMessageBytes = limit
	l := &lane{session: s, limit: limit, check: make(chan struct{}), client: &steadyClient{
		Client: s.client, conf: &conf, gate: s.gate, backoff: s.pub.cfg.backoff, trouble: s.pub.trouble, missing: map[string]bool{},
	}}
	for n := 1; ; n++ {
		producer, err := sarama.NewAsyncProducerFromClient(l.client)
		if err == nil {
			l.producer = producer
			break
		}
		s.pub.trouble(err)
		if !s.gate.wait(s.pub.cfg.backoff(n)) {
			return nil
		}
		_ = s.client.RefreshMetadata() // brokers may have moved; the next attempt tells
	}
	s.gate.addCheck(l.check)
	l.readers.Go(l.readSuccesses)
	l.readers.Go(l.readErrors)
	return l
}

func (l *lane) readSuccesses() {
	for m := range l.producer.Successes() {
		if sl, ok := m.Metadata.(*slot); ok {
			l.session.succeed(sl)
		}
	}
}

// readErrors must never wait for anything but the session's mutex: writes to the
// network wait for it.
func (l *lane) readErrors() {
	for {
		select {
		case e, ok := <-l.producer.Errors():
			if !ok {
				return
			}
			if sl, ok := e.Msg.Metadata.(*slot); ok {
				l.session.failed(sl, e.Err)
			}
		case <-l.check:
		}
	}
}
