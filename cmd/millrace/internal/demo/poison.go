package demo

import (
	"bytes"
	"errors"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
)

// poison fails the handling of the messages that this run has marked, until it
// is repaired: a handler with a defect that one kind of event hits.
type poison struct {
	mark     string
	repaired atomic.Bool
}

var errPoison = errors.New("this message cannot be digested")

func newPoison(run string) *poison { return &poison{mark: "poison-" + run} }

// subject marks a notification.
func (p *poison) subject() string { return p.mark }

func (p *poison) repair() { p.repaired.Store(true) }

// middleware fails the request events of marked notifications; later events of
// the same notification are not affected.
func (p *poison) middleware(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		marked := msg.Metadata.Get("aggregate-version") == "1" && bytes.Contains(msg.Payload, []byte(p.mark))
		if marked && !p.repaired.Load() {
			return nil, errPoison
		}
		return next(msg)
	}
}
