package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/outbox"
)

const (
	viewTTL     = time.Minute     // how long a topic's settings are used without asking again
	badViewTTL  = time.Second     // the same for "no such topic" and "no answer"
	firstAnswer = 5 * time.Second // how long to wait for the first answer about a topic
	batchFrame  = 512             // what a batch adds to the size of its records
	missingPoll = 250 * time.Millisecond
)

// topicView is what is known of a topic at one moment.
type topicView struct {
	limit  int   // size limit of one message, in bytes
	refuse error // outbox.ErrUnpublishable if nothing can be published to it
}

// verdict refuses a message of size bytes that the topic would not take.
func (v topicView) verdict(size int) error {
	if v.refuse != nil {
		return v.refuse
	}
	if size > v.limit {
		return outbox.Unpublishable(reasonTooLarge, fmt.Errorf("%d bytes, %d allowed", size, v.limit))
	}
	return nil
}

// topicCache has the settings of the topics that are published to. It answers at
// once about a topic that it knows, and asks the brokers again in the background.
type topicCache struct {
	admin *Admin
	limit int // of a topic about which nothing is known

	mu     sync.RWMutex
	topics map[string]*topicEntry
	closed bool
	asking sync.WaitGroup
	ctx    context.Context //nolint:containedctx // ends with close: it bounds questions that nobody waits for
	cancel context.CancelFunc
}

type topicEntry struct {
	view       topicView
	until      time.Time     // when to ask again
	answeredAt time.Time     // when the last question was answered
	asked      chan struct{} // closed when the present question is answered; nil if there is none
	answered   bool          // a broker has answered at least once
	absent     bool          // the last answer was that it does not exist
	existed    bool          // it has existed
}

func newTopicCache(admin *Admin, limit int) *topicCache {
	c := &topicCache{admin: admin, limit: limit, topics: map[string]*topicEntry{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// view returns what is known about topic. It waits, until ctx ends, only if nothing
// is known or the topic does not exist.
func (c *topicCache) view(ctx context.Context, topic string) topicView {
	c.mu.RLock()
	if e := c.topics[topic]; e != nil && time.Now().Before(e.until) {
		defer c.mu.RUnlock()
		return e.view
	}
	c.mu.RUnlock()

	c.mu.Lock()
	e := c.ask(topic)
	view, asked, wait := e.view, e.asked, !e.answered || e.view.refuse != nil
	c.mu.Unlock()
	if !wait || asked == nil {
		return view
	}
	t := time.NewTimer(firstAnswer)
	defer t.Stop()
	select {
	case <-asked:
	case <-ctx.Done():
	case <-t.C:
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return e.view
}

// ask asks the brokers about topic unless that is being done. Requires c.mu.
func (c *topicCache) ask(topic string) *topicEntry {
	e := c.topics[topic]
	if e == nil {
		e = &topicEntry{view: topicView{limit: c.limit}}
		c.topics[topic] = e
	}
	if e.asked == nil && !c.closed && !time.Now().Before(e.until) {
		e.asked = make(chan struct{})
		c.asking.Go(func() { c.answer(topic, e) })
	}
	return e
}

func (c *topicCache) answer(topic string, e *topicEntry) {
	info, err := c.describe(topic, e)
	reason := ""
	if err != nil {
		reason, _ = refusal(err, true)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	e.answeredAt = now
	switch {
	case err == nil:
		e.view, e.until, e.answered, e.absent = topicView{limit: c.limitOf(info)}, now.Add(viewTTL), true, false
		e.existed = true
	case reason != "":
		e.view.refuse, e.until, e.answered = outbox.Unpublishable(reason, fmt.Errorf("%q: %w", topic, err)), now.Add(badViewTTL), true
		e.absent = errors.Is(err, sarama.ErrUnknownTopicOrPartition)
	default: // no answer, so no verdict
		e.view.refuse, e.until = nil, now.Add(badViewTTL)
	}
	close(e.asked)
	e.asked = nil
}

// describe asks the brokers. They must say for a while that a topic does not exist
// before it is believed the first time; longer if the topic has existed. Publishing
// waits meanwhile, so the time is short for a topic that was never seen: a relay
// releases what it has parked by mistake.
func (c *topicCache) describe(topic string, e *topicEntry) (info TopicInfo, err error) {
	var since time.Time
	wait := missingPoll
	if e.existed {
		wait = missingFor
	}
	for {
		err = c.admin.link.do(c.ctx, func(_ sarama.Client, admin sarama.ClusterAdmin) error {
			info, err = describe(admin, topic)
			return err
		})
		if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) || e.absent {
			return info, err
		}
		if since.IsZero() {
			since = time.Now()
		} else if time.Since(since) >= wait {
			return info, err
		}
		select {
		case <-c.ctx.Done():
			return info, context.Cause(c.ctx)
		case <-time.After(missingPoll):
		}
	}
}

func (c *topicCache) limitOf(info TopicInfo) int {
	if info.MaxMessageBytes == 0 { // not allowed to know
		return c.limit
	}
	return min(c.limit, info.MaxMessageBytes-batchFrame)
}

// doubt makes the next question about topic wait for a fresh answer and returns
// true. It returns false if the last answer is less than a second old.
func (c *topicCache) doubt(topic string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.topics[topic]
	if e == nil || time.Since(e.answeredAt) < badViewTTL {
		return false
	}
	e.until, e.answered = time.Time{}, false
	return true
}

// forget makes the next question about topic wait for a fresh answer.
func (c *topicCache) forget(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.topics[topic]; e != nil {
		e.until, e.answered = time.Time{}, false
	}
}

func (c *topicCache) close() {
	c.mu.Lock()
	c.closed = true
	c.cancel()
	c.mu.Unlock()
	c.admin.link.close()
	c.asking.Wait()
}
