package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrNotClaimed means that no subscription of this Subscriber owns the partition.
var ErrNotClaimed = errors.New("partition is not claimed here")

// Pause stops delivering messages of a partition. After it has returned, no further
// one is delivered; those in flight may still be answered. The pause lasts until
// Resume, even if the partition moves away and returns, and may be set before there
// is a subscription. The partition keeps its owner.
//
// A handler may call Pause, a hook may not.
func (s *Subscriber) Pause(topic string, partition int32) { s.hold(topic, partition, true) }

// Resume undoes Pause.
func (s *Subscriber) Resume(topic string, partition int32) { s.hold(topic, partition, false) }

func (s *Subscriber) hold(topic string, partition int32, held bool) {
	s.paused.set(topic, partition, held)
	for _, sub := range s.subscriptionsTo(topic) {
		if c := sub.claimOf(partition); c != nil {
			c.do(func() { c.paused = held })
		}
	}
}

// pauses is the set of paused partitions.
type pauses struct{ m sync.Map }

type topicPartition struct {
	topic     string
	partition int32
}

func (p *pauses) set(topic string, partition int32, paused bool) {
	if paused {
		p.m.Store(topicPartition{topic, partition}, true)
	} else {
		p.m.Delete(topicPartition{topic, partition})
	}
}

func (p *pauses) has(topic string, partition int32) bool {
	_, ok := p.m.Load(topicPartition{topic, partition})
	return ok
}

// Seek moves the group's offset of a claimed partition, back or forward, and
// continues there. The member starts a new session for it: the handlers of all its
// partitions have RevokeGrace to finish. The error is ErrNotClaimed if this
// Subscriber does not own the partition.
func (s *Subscriber) Seek(topic string, partition int32, offset int64) error {
	if offset < 0 {
		return fmt.Errorf("seek %s/%d: offset must not be negative, is %d", topic, partition, offset)
	}
	for _, sub := range s.subscriptionsTo(topic) {
		if c := sub.claimOf(partition); c != nil && c.do(func() { c.seek(offset) }) {
			<-c.done
			return nil
		}
	}
	return fmt.Errorf("seek %s/%d: %w", topic, partition, ErrNotClaimed)
}

// seek ends the claim, and with it the session; the next one starts at offset.
func (c *claim) seek(offset int64) {
	c.seekTo = &offset
	c.stopWithin(c.sub.cfg.RevokeGrace)
}

// Claim is one partition that a Subscriber consumes, and how far it is.
type Claim struct {
	Group     string
	Topic     string
	Partition int32
	// Next is the offset to commit: everything below it is finished. It is -1
	// until the first record has arrived.
	Next int64
	// End is the offset of the next record that will be written, as of the last
	// fetch.
	End int64
	// Waiting is how many records wait in memory.
	Waiting int
	// Outstanding is how many messages are delivered and not answered.
	Outstanding int
	// Refused is how many keys back off after a nack.
	Refused int
	// Oldest is how long the oldest outstanding delivery has been unanswered.
	Oldest time.Duration
	// Paused reports whether Pause was called.
	Paused bool
}

// Status returns the claimed partitions, ordered by topic and partition.
func (s *Subscriber) Status() []Claim {
	s.mu.Lock()
	subs := s.subscriptions()
	s.mu.Unlock()
	var all []Claim
	for _, sub := range subs {
		for _, c := range sub.allClaims() {
			c.do(func() { all = append(all, c.status()) })
		}
	}
	slices.SortFunc(all, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return all
}

// at returns the claim at the offset next, without the figures.
func (c *claim) at(next int64) Claim {
	return Claim{Group: c.sub.groupID, Topic: c.topic, Partition: c.partition, Next: next, End: c.highWater(), Paused: c.paused}
}

func (c *claim) status() Claim {
	st := c.at(c.window.lowWater)
	st.Waiting, st.Refused = c.window.waiting, len(c.window.backingOff.lanes)
	for d := range c.outstanding {
		st.Outstanding += len(d.records)
		st.Oldest = max(st.Oldest, time.Since(d.since))
	}
	return st
}

func (s *Subscriber) subscriptionsTo(topic string) []*subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(s.subscriptions(), func(sub *subscription) bool { return sub.topic != topic })
}

func (s *subscription) claimOf(partition int32) *claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims[partition]
}

func (s *subscription) allClaims() []*claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	claims := make([]*claim, 0, len(s.claims))
	for _, c := range s.claims {
		claims = append(claims, c)
	}
	return claims
}
