package consumer

import (
	"cmp"
	"time"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// Pauser stops and starts the delivery of a partition; package kafka's
// Subscriber is one.
type Pauser interface {
	Pause(topic string, partition int32)
	Resume(topic string, partition int32)
}

// BreakerConfig configures a Breaker. The zero value is usable.
type BreakerConfig struct {
	// Pauser stops fetching while the breaker is open. It is the subscriber of
	// the handler. Default none: deliveries are held all the same, and as they are
	// not answered the subscriber soon has no more to deliver.
	Pauser Pauser
	// InARow is how many records of a partition must fail, with none that succeeds
	// between them, before the breaker opens. It counts a record at its first failed
	// attempt: with as many deliveries at work at once no record becomes a dead
	// letter before, with one delivery at a time InARow-1 records do; -1 is off.
	// Default 10.
	InARow int
	// Share is the percentage of the last Window records of a partition, once there
	// are that many, that may use up their retries; with more the breaker opens. -1
	// is off. Default 20.
	Share int
	// Window is the number of records that Share counts. Default 100.
	Window int
	// ProbeEvery is the time between attempts while the breaker is open, spread
	// by a tenth. Default 10 s.
	ProbeEvery time.Duration
	// MaxHold bounds how long a delivery is held. Then its retry policy decides
	// about it, and it may become a dead letter, while the breaker stays open for the
	// others. So a record that fails by itself cannot stop its partition forever; -1
	// is no bound. Default 15 min.
	MaxHold time.Duration
	// Classify says which failures count: those worth a retry. It should be the
	// handler's. Default Classify.
	Classify func(error) Verdict
	// Unavailable says which failures mean that the dependency cannot be reached. The
	// first of them opens the breaker, whatever InARow and Share are, and MaxHold
	// counts from the last of them: however long the dependency is unavailable, no
	// record becomes a dead letter because of it. A breaker that was opened by such
	// a failure closes as soon as an attempt fails for another reason. Fatal failures
	// are not asked about. Default none.
	Unavailable func(error) bool
	// Hooks: Paused, Probed and Resumed are called. Default none.
	Hooks Hooks
}

func (c BreakerConfig) validate() error {
	var l problems.List
	l.Unless(c.InARow >= -1, "InARow", "must be positive or -1, is %d", c.InARow)
	problems.Within(&l, "Share", c.Share, -1, 99)
	problems.AtLeast(&l, "Window", c.Window, 0)
	problems.AtLeast(&l, "ProbeEvery", c.ProbeEvery, 0)
	l.Unless(c.MaxHold >= -1, "MaxHold", "must be positive or -1, is %s", c.MaxHold)
	return l.Err()
}

func (c BreakerConfig) withDefaults() BreakerConfig {
	c.InARow = cmp.Or(c.InARow, 10)
	c.Share = cmp.Or(c.Share, 20)
	c.Window = cmp.Or(c.Window, 100)
	c.ProbeEvery = cmp.Or(c.ProbeEvery, 10*time.Second)
	c.MaxHold = cmp.Or(c.MaxHold, 15*time.Minute)
	if c.Classify == nil {
		c.Classify = Classify
	}
	if c.Pauser == nil {
		c.Pauser = noPauser{}
	}
	if c.Unavailable == nil {
		c.Unavailable = func(error) bool { return false }
	}
	c.Hooks = c.Hooks.withDefaults()
	return c
}

type noPauser struct{}

func (noPauser) Pause(string, int32)  {}
func (noPauser) Resume(string, int32) {}
