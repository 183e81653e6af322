package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Draining makes a subscriber drain that would cut its handlers off: when the
// context of a subscription ends, it hands out no more messages, waits up to
// timeout until those it handed out are answered, with their contexts alive, and
// only then ends the subscription below. Use it for subscribers other than
// package kafka's.
func Draining(sub message.Subscriber, timeout time.Duration) message.Subscriber {
	return &draining{sub: sub, timeout: timeout}
}

type draining struct {
	sub     message.Subscriber
	timeout time.Duration
}

// Subscribe subscribes below with a context that outlives ctx.
func (d *draining) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	below, cancel := context.WithCancel(context.WithoutCancel(ctx))
	in, err := d.sub.Subscribe(below, topic)
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		defer cancel()
		d.pump(ctx, in, out)
	}()
	return out, nil
}

// Close closes the subscriber below. End the subscriptions first.
func (d *draining) Close() error { return d.sub.Close() }

func (d *draining) pump(ctx context.Context, in <-chan *message.Message, out chan<- *message.Message) {
	over := make(chan struct{})
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer close(over)
	var answers sync.WaitGroup
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case msg, ok := <-in:
			if !ok {
				return
			}
			select {
			case <-ctx.Done():
				msg.Nack()
			case out <- msg:
				answers.Add(1)
				waiting.Go(func() {
					defer answers.Done()
					select {
					case <-msg.Acked():
					case <-msg.Nacked():
					case <-over:
					}
				})
			}
		}
	}
	answered := make(chan struct{})
	waiting.Go(func() {
		answers.Wait()
		close(answered)
	})
	select {
	case <-answered:
	case <-time.After(d.timeout):
	}
}
