package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrNotClaimed means that no subscription of this Subscriber has the partition.
var ErrNotClaimed = errors.New("partition is not claimed here")

// Pause stops handing out messages of a partition; those that are out may still
// be answered. When it returns, no further one is handed out. The pause lasts
// until Resume, also if the partition moves away and comes back, and may begin
// before there is a subscription. It does not change who owns the partition.
//
// A handler may call it, a hook may not.
func (s *Subscriber) Pause(topic string, partition int32) { s.hold(topic, partition, true) }

// Resume undoes Pause.
func (s *Subscriber) Resume(topic string, partition int32) { s.hold(topic, partition, false) }

func (s *Subscriber) hold(topic string, partition int32, held bool) {
	s.paused.set(topic, partition, held)
	for _, sub := range s.subscriptionsTo(topic) {
		if c := sub.claimOf(partition); c != nil {
			c.do(func() { c.held = held })
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

// Seek moves the group's offset of a claimed partition, back or forth, and goes
// on from there. The member's session begins anew for it: handlers of all its
// partitions have RevokeGrace to finish. ErrNotClaimed if another member, or
// nobody, has the partition.
func (s *Subscriber) Seek(topic string, partition int32, offset int64) error {
	if offset < 0 {
		return fmt.Errorf("seek %s/%d: offset must not be negative, but is %d", topic, partition, offset)
	}
	for _, sub := range s.subscriptionsTo(topic) {
		if c := sub.claimOf(partition); c != nil && c.do(func() { c.seek(offset) }) {
			<-c.done
			return nil
		}
	}
	return fmt.Errorf("seek %s/%d: %w", topic, partition, ErrNotClaimed)
}

// seek ends the claim, and with it the session, to begin again at offset.
func (c *claim) seek(offset int64) {
	c.seekTo = &offset
	c.stopWithin(c.sub.cfg.RevokeGrace)
}

// Claim is one partition that a Subscriber consumes, and how far it is.
type Claim struct {
	Group     string
	Topic     string
	Partition int32
	// Next is the offset to be committed: everything below it is finished. It
	// is -1 until the first record has arrived.
	Next int64
	// End is the offset that the newest record of the partition will be
	// followed by, as the last fetch told.
	End int64
	// Waiting, Outstanding and Refused count deliveries: records in memory,
	// records handed out and not answered, and keys in back-off.
	Waiting, Outstanding, Refused int
	// Oldest is how long the oldest outstanding delivery has been out.
	Oldest time.Duration
	// Paused is what Pause asked for.
	Paused bool
}

// Status lists the claimed partitions by topic and partition.
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

// at is the claim with the offset next, without the figures.
func (c *claim) at(next int64) Claim {
	return Claim{Group: c.sub.groupID, Topic: c.topic, Partition: c.partition, Next: next, End: c.end(), Paused: c.held}
}

func (c *claim) status() Claim {
	st := c.at(c.window.mark)
	st.Waiting, st.Refused = c.window.waiting, len(c.window.asleep.lanes)
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
