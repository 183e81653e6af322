// Package testbroker is a broker in memory for the tests of package consumer and
// the packages below it. Reference code: no compatibility promise.
package testbroker

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/record"
)

// The place and the group of NewRecord.
const (
	Topic = "notification.v1"
	Group = "views"
)

// NewRecord is a record of Topic as a consumer of Group receives it.
func NewRecord(headers ...record.Header) *record.Record {
	return &record.Record{
		Topic: Topic, Partition: 3, Offset: 42, Group: Group, Key: []byte("recipient-1"),
		Timestamp: time.UnixMilli(1_700_000_000_123), Headers: headers,
	}
}

// Header is a header with a text value.
func Header(name, value string) record.Header {
	return record.Header{Key: name, Value: []byte(value)}
}

// Sent is one record that a Publisher accepted.
type Sent struct {
	Topic     string
	Partition int32
	Key       []byte
	Headers   []record.Header
	Value     []byte
}

// Header is the value of the last header of that name.
func (s Sent) Header(name string) string {
	for _, h := range slices.Backward(s.Headers) {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// Count is how many headers of that name there are.
func (s Sent) Count(name string) (n int) {
	for _, h := range s.Headers {
		if h.Key == name {
			n++
		}
	}
	return n
}

// Publisher honours record.Record as package kafka's does.
type Publisher struct {
	Refuse []error          // the answers to the next publishes
	Judge  func(Sent) error // decides on each record; nil accepts all

	mu      sync.Mutex
	records []Sent
	times   []time.Time
	closed  bool
}

// Publish accepts msgs up to the first that Judge refuses.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times = append(p.times, time.Now())
	if len(p.Refuse) > 0 {
		err := p.Refuse[0]
		p.Refuse = p.Refuse[1:]
		return err
	}
	for _, m := range msgs {
		if err := m.Context().Err(); err != nil {
			return err
		}
		r, ok := record.From(m.Context())
		if !ok {
			return errors.New("no record in the context")
		}
		s := Sent{Topic: topic, Partition: r.Partition, Key: r.Key, Headers: r.Headers, Value: m.Payload}
		if p.Judge != nil {
			if err := p.Judge(s); err != nil {
				return err
			}
		}
		p.records = append(p.records, s)
	}
	return nil
}

// Close remembers that it was called.
func (p *Publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

// IsClosed reports whether Close was called.
func (p *Publisher) IsClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// All returns the records that were accepted, in their order.
func (p *Publisher) All() []Sent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.records)
}

// Times returns when Publish was called.
func (p *Publisher) Times() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.times)
}
