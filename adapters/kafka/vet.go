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
	knownFor    = time.Minute     // how long a topic's settings are believed
	unknownFor  = time.Second     // how long "no such topic" or "no answer" is
	firstWord   = 5 * time.Second // how long to wait for the first word on a topic
	batchFrame  = 512             // what a batch and its compression add to its records
	missingPoll = 250 * time.Millisecond
)

// topicView is what is known of a topic at one moment.
type topicView struct {
	limit  int   // most bytes of one message
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

// topicCache knows the topics that are published to. Questions about a topic that
// is known are answered at once and asked again in the background.
type topicCache struct {
	admin *Admin
	limit int // of a topic of which nothing is known

	mu     sync.RWMutex
	topics map[string]*topicEntry
	closed bool
	asking sync.WaitGroup
	life   context.Context // ends with close: it bounds questions nobody waits for
	end    context.CancelFunc
}

type topicEntry struct {
	view   topicView
	until  time.Time     // when to ask again
	since  time.Time     // when the last question was answered
	asked  chan struct{} // closed when the question under way is answered; nil if there is none
	told   bool          // a broker has told of it at least once
	absent bool          // the last word was that it does not exist
	known  bool          // it has existed
}

func newTopicCache(admin *Admin, limit int) *topicCache {
	c := &topicCache{admin: admin, limit: limit, topics: map[string]*topicEntry{}}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

// view returns what is known of topic. It waits, within ctx, only if that is
// nothing or that it does not exist.
func (c *topicCache) view(ctx context.Context, topic string) topicView {
	c.mu.RLock()
	if e := c.topics[topic]; e != nil && time.Now().Before(e.until) {
		defer c.mu.RUnlock()
		return e.view
	}
	c.mu.RUnlock()

	c.mu.Lock()
	e := c.ask(topic)
	view, asked, wait := e.view, e.asked, !e.told || e.view.refuse != nil
	c.mu.Unlock()
	if !wait || asked == nil {
		return view
	}
	t := time.NewTimer(firstWord)
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

// ask begins a question about topic unless one is under way. Requires c.mu.
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
	e.since = now
	switch {
	case err == nil:
		e.view, e.until, e.told, e.absent = topicView{limit: c.limitOf(info)}, now.Add(knownFor), true, false
		e.known = true
	case reason != "":
		e.view.refuse, e.until, e.told = outbox.Unpublishable(reason, fmt.Errorf("%q: %w", topic, err)), now.Add(unknownFor), true
		e.absent = errors.Is(err, sarama.ErrUnknownTopicOrPartition)
	default: // no answer is no verdict
		e.view.refuse, e.until = nil, now.Add(unknownFor)
	}
	close(e.asked)
	e.asked = nil
}

// describe asks the brokers. That a topic does not exist must be told for a
// while before it is believed the first time, the longer if it has existed.
// Publishing waits meanwhile, so it is not long for a topic nobody has seen: a
// relay takes back what it parked by mistake.
func (c *topicCache) describe(topic string, e *topicEntry) (info TopicInfo, err error) {
	var since time.Time
	doubt := missingPoll
	if e.known {
		doubt = missingFor
	}
	for {
		err = c.admin.link.do(c.life, func(_ sarama.Client, admin sarama.ClusterAdmin) error {
			info, err = describe(admin, topic)
			return err
		})
		if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) || e.absent {
			return info, err
		}
		if since.IsZero() {
			since = time.Now()
		} else if time.Since(since) >= doubt {
			return info, err
		}
		select {
		case <-c.life.Done():
			return info, context.Cause(c.life)
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

// doubt has the next question about topic wait for a fresh answer, and reports
// true, unless the last answer is quite new.
func (c *topicCache) doubt(topic string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.topics[topic]
	if e == nil || time.Since(e.since) < unknownFor {
		return false
	}
	e.until, e.told = time.Time{}, false
	return true
}

// forget makes the next question about topic wait for a fresh answer.
func (c *topicCache) forget(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.topics[topic]; e != nil {
		e.until, e.told = time.Time{}, false
	}
}

func (c *topicCache) close() {
	c.mu.Lock()
	c.closed = true
	c.end()
	c.mu.Unlock()
	c.admin.link.close()
	c.asking.Wait()
}
