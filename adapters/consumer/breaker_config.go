package consumer

import (
	"errors"
	"fmt"
	"time"
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
	// the handler. Default none: deliveries are held all the same, and as they
	// are not answered the subscriber soon has no more to hand out.
	Pauser Pauser
	// InARow is how many records of a partition fail, without one that succeeds
	// between them, until the breaker opens. It counts a record at its first
	// failed attempt: with as many deliveries at work at once nothing becomes a
	// dead letter before, with one delivery at a time InARow-1 records do.
	// Default 10, -1 is off.
	InARow int
	// Share is how many percent of the last Window records of a partition, once
	// there are that many, may use up their retries; with more the breaker
	// opens. Default 20, -1 is off.
	Share int
	// Window is the number of records that Share looks at. Default 100.
	Window int
	// ProbeEvery is the pause between attempts while the breaker is open, spread
	// by a tenth. Default 10 s.
	ProbeEvery time.Duration
	// MaxHold bounds how long a delivery is held; then it goes its way, by its
	// retry policy, to the dead letters, while the breaker stays open for the
	// others. It keeps a record that fails by itself from stopping its partition
	// for good. Default 15 min, -1 is no bound.
	MaxHold time.Duration
	// Classify decides which failures count: those worth a retry. It should be
	// the handler's. Default Classify.
	Classify func(error) Verdict
	// Unavailable tells the failures which say that the dependency cannot be
	// reached. The first of them opens the breaker, whatever InARow and Share are,
	// and MaxHold counts from the last of them: however long the dependency is
	// away, no record becomes a dead letter for it. A breaker that one of them has
	// opened closes as soon as an attempt fails for another reason. Failures that
	// no retry can heal are not asked about. Default none.
	Unavailable func(error) bool
	// Opened and Closed tell when a partition is paused and when it is resumed,
	// Probed of each failed attempt between. When nothing is left to be tried, the
	// partition having moved away for instance, that is told as Closed too, and as
	// Opened when the next delivery is held. They must be quick. Default none.
	Opened, Probed, Closed func(BreakerStatus)
}

// Validate names every field that is out of range.
func (c *BreakerConfig) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("breaker: "+format, args...))
		}
	}
	check(c.InARow >= -1, "in a row must be positive or -1, is %d", c.InARow)
	check(c.Share >= -1 && c.Share < 100, "share must be within 0 and 99 or -1, is %d", c.Share)
	check(c.Window >= 0, "window must not be negative, is %d", c.Window)
	check(c.ProbeEvery >= 0, "probe every must not be negative, is %s", c.ProbeEvery)
	check(c.MaxHold >= -1, "max hold must be positive or -1, is %s", c.MaxHold)
	return errors.Join(errs...)
}

func (c *BreakerConfig) setDefaults() {
	if c.InARow == 0 {
		c.InARow = 10
	}
	if c.Share == 0 {
		c.Share = 20
	}
	if c.Window == 0 {
		c.Window = 100
	}
	if c.ProbeEvery == 0 {
		c.ProbeEvery = 10 * time.Second
	}
	if c.MaxHold == 0 {
		c.MaxHold = 15 * time.Minute
	}
	if c.Classify == nil {
		c.Classify = Classify
	}
	if c.Pauser == nil {
		c.Pauser = noPauser{}
	}
	if c.Unavailable == nil {
		c.Unavailable = func(error) bool { return false }
	}
	nothing := func(BreakerStatus) {}
	for _, hook := range []*func(BreakerStatus){&c.Opened, &c.Probed, &c.Closed} {
		if *hook == nil {
			*hook = nothing
		}
	}
}

type noPauser struct{}

func (noPauser) Pause(string, int32)  {}
func (noPauser) Resume(string, int32) {}
