package pipeline

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/telemetry"
)

// GroupConfig configures a consumer group. The zero value is usable.
type GroupConfig struct {
	// Subscriber configures how records are fetched and handed out. Its Concurrency
	// is 32 by default here: messages of one key are in order, others side by side.
	Subscriber kafka.SubscriberConfig
	// Unavailable reports which failures say nothing about a message, because what
	// the handler needs cannot be reached. They pause the partition until an attempt
	// finds it again, and never make a dead letter. It is not called for failures
	// that no retry can heal. A handler that connects to addresses which its
	// messages name should exclude those. Default Unavailable.
	Unavailable func(error) bool
	// Breaker configures what pauses partitions. Pauser, Unavailable and Classify
	// are set by the group.
	Breaker consumer.BreakerConfig
	// Inbox configures the inbox of HandleOnce. Committed is set by the group.
	Inbox inbox.Config
	// DeadLetterTopic names the dead-letter topic of a topic. Default
	// deadletter.Topic.
	DeadLetterTopic func(topic string) string
	// Options are those of each handler of the group. Default none.
	Options []consumer.Option
}

// Group is a consumer group: its handlers, one for each topic, share the group's
// name and settings. Groups are independent of each other: each gets every message.
type Group struct {
	p       *Pipeline
	name    string
	cfg     GroupConfig
	sub     *kafka.Subscriber
	breaker *consumer.Breaker
	inbox   *inbox.Inbox // nil without HandleOnce
	topics  []string
}

// Group adds the consumer group of that name. Add groups and their handlers before
// Run; what is wrong with them is an error of Run, all at once.
func (p *Pipeline) Group(name string, cfg GroupConfig) *Group {
	g := &Group{p: p, name: name, cfg: cfg}
	p.wire(func() error {
		twice := slices.ContainsFunc(p.groups, func(o *Group) bool { return o.name == name })
		p.groups = append(p.groups, g)
		if twice {
			return fmt.Errorf("Group: must be another name, %q is there twice", name)
		}
		var unnamed error
		if name == "" {
			unnamed = errors.New("Group.Name: must not be empty")
		}
		return errors.Join(unnamed, under(fmt.Sprintf("Group %q", name), g.build()))
	})
	return g
}

// build makes the parts of the group. The caller holds the pipeline's lock.
func (g *Group) build() error {
	own := g.p.cfg.Kafka
	own.Hooks = g.p.kafkaHooks(g.name).Tee(g.p.userKafka)
	if g.cfg.Subscriber.Concurrency == 0 {
		g.cfg.Subscriber.Concurrency = 32
	}
	if g.cfg.Subscriber.DrainTimeout == 0 {
		g.cfg.Subscriber.DrainTimeout = g.p.cfg.DrainTimeout
	}
	var errs []error
	var err error
	g.sub, err = kafka.NewSubscriber(cmp.Or(g.name, "unnamed"), own, g.cfg.Subscriber)
	errs = append(errs, under("Subscriber", err))
	b := g.cfg.Breaker
	b.Pauser = g.sub
	if b.Classify = g.p.cfg.Consumer.Classify; b.Classify == nil {
		b.Classify = consumer.Classify
	}
	if b.Unavailable = g.cfg.Unavailable; b.Unavailable == nil {
		b.Unavailable = Unavailable
	}
	b.Hooks = g.p.breakerHooks().Tee(b.Hooks)
	g.breaker, err = consumer.NewBreaker(b)
	return errors.Join(append(errs, under("Breaker", err))...)
}

func (g *Group) deadLetters(topic string) string {
	if g.cfg.DeadLetterTopic != nil {
		return g.cfg.DeadLetterTopic(topic)
	}
	return deadletter.Topic(topic)
}

// Handle handles the messages of topic with fn, one at a time.
func (g *Group) Handle(topic string, fn message.NoPublishHandlerFunc, opts ...consumer.Option) {
	g.add(topic, fn == nil, func(name string, own []consumer.Option) {
		g.p.parts.Router.Handle(name, topic, g.sub, fn, append(own, opts...)...)
	})
}

// HandleBatch handles the messages of topic with fn, many at once.
func (g *Group) HandleBatch(topic string, fn consumer.BatchFunc, opts ...consumer.Option) {
	g.add(topic, fn == nil, func(name string, own []consumer.Option) {
		g.p.parts.Router.HandleBatch(name, topic, g.sub, fn, append(own, opts...)...)
	})
}

// HandleOnce makes the effects of the messages of topic in Postgres, each event's
// once, however often it is delivered. The effect and the memory of it are one
// transaction, which Append takes too: what an effect appends is published once.
func (g *Group) HandleOnce(topic string, effect inbox.Effect, opts ...consumer.Option) {
	if effect == nil {
		g.HandleBatch(topic, nil)
		return
	}
	box, err := g.makeInbox()
	if err != nil {
		g.p.wire(func() error { return under(fmt.Sprintf("Group %q: Inbox", g.name), err) })
		return
	}
	if box == nil { // too late: reported as such
		g.HandleBatch(topic, nil)
		return
	}
	g.HandleBatch(topic, box.Batch(effect), opts...)
}

func (g *Group) makeInbox() (*inbox.Inbox, error) {
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	if g.inbox != nil || g.p.started {
		return g.inbox, nil
	}
	cfg := g.cfg.Inbox
	cfg.Committed, cfg.Hooks = g.p.parts.Writer.Wake, g.p.inboxHooks(g.name, cfg.Hooks)
	box, err := inbox.New(g.p.db, g.name, cfg)
	if err == nil {
		g.inbox = box
	}
	return box, err
}

// add registers a handler of topic.
func (g *Group) add(topic string, missing bool, register func(name string, own []consumer.Option)) {
	g.p.wire(func() error {
		if slices.Contains(g.topics, topic) {
			return fmt.Errorf("Group %q: topic %q: must have one handler, has two", g.name, topic)
		}
		g.topics = append(g.topics, topic)
		if topic == "" {
			return fmt.Errorf("Group %q: topic: must not be empty", g.name)
		}
		if missing {
			return fmt.Errorf("Group %q: topic %q: handler must be a function, is nil", g.name, topic)
		}
		if g.sub == nil || g.breaker == nil {
			return nil // reported with the group
		}
		own := []consumer.Option{consumer.WithGroup(g.name), consumer.WithBreaker(g.breaker), consumer.WithDeadLetterTopic(g.deadLetters(topic))}
		if g.p.cfg.Tracer != nil {
			own = append(own, consumer.WithAround(telemetry.TraceProcess(g.p.cfg.Tracer, telemetry.ProcessConfig{})))
		}
		g.p.handlers++
		register(g.name+"/"+topic, append(own, g.cfg.Options...))
		return nil
	})
}

// Handle handles the messages of topic with a function of their decoded values, one
// at a time. A message that cannot be decoded becomes a dead letter. consumer.JSON
// is a decoder.
func Handle[T any](g *Group, topic string, decode func(*message.Message) (T, error), handle func(context.Context, T) error, opts ...consumer.Option) {
	if decode == nil || handle == nil {
		g.Handle(topic, nil)
		return
	}
	g.Handle(topic, consumer.Typed(decode, handle), opts...)
}

// HandleBatch is Handle for a function of many values. If it fails, it is called
// for each message alone, so that a message which cannot be handled costs itself
// only; it may return a consumer.BatchError instead, which names those.
func HandleBatch[T any](g *Group, topic string, decode func(*message.Message) (T, error), handle func(context.Context, []T) error, opts ...consumer.Option) {
	if decode == nil || handle == nil {
		g.HandleBatch(topic, nil)
		return
	}
	g.HandleBatch(topic, consumer.TypedBatch(decode, handle), opts...)
}

// HandleOnce is Group.HandleOnce for a function of decoded values.
func HandleOnce[T any](g *Group, topic string, decode func(*message.Message) (T, error), effect func(ctx context.Context, tx *sql.Tx, v T) error, opts ...consumer.Option) {
	if decode == nil || effect == nil {
		g.HandleOnce(topic, nil)
		return
	}
	g.HandleOnce(topic, inbox.Typed(decode, effect), opts...)
}
