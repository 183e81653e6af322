package cache

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// breaker leaves Redis alone after some errors in a row, and then lets one call
// through every probe, until one succeeds.
type breaker struct {
	limit   int32
	every   time.Duration
	now     func() time.Time
	changed func(open bool, err error)

	errors atomic.Int32
	probe  atomic.Int64 // when the next call may go, Unix nanoseconds; 0 is closed
}

func (b *breaker) open() bool { return b.probe.Load() != 0 }

// allow reports whether to ask Redis now. Report what became of it.
func (b *breaker) allow() bool {
	at := b.probe.Load()
	if at == 0 {
		return true
	}
	now := b.now().UnixNano()
	return now >= at && b.probe.CompareAndSwap(at, now+int64(b.every))
}

// report takes the error of a call that was allowed.
func (b *breaker) report(err error) {
	switch {
	case !isFault(err):
		if b.errors.Load() != 0 {
			b.errors.Store(0)
		}
		if b.open() && !errors.Is(err, context.Canceled) && b.probe.Swap(0) != 0 {
			b.changed(false, nil)
		}
	case b.errors.Add(1) >= b.limit:
		if b.probe.Swap(b.now().Add(b.every).UnixNano()) == 0 {
			b.changed(true, err)
		}
	}
}

// minReplyTime is how long a caller must wait before no answer counts as a fault.
const minReplyTime = 20 * time.Millisecond

// faultOf is err as far as it says something of Redis, not of a caller who came
// with next to no time left.
func faultOf(ctx context.Context, err error, start time.Time) error {
	if err != nil && ctx.Err() != nil && time.Since(start) < minReplyTime {
		return context.Canceled
	}
	return err
}

// isFault reports whether err means that Redis cannot be worked with. A caller
// that went away says nothing of Redis, and most error replies are about one
// command.
func isFault(err error) bool {
	if err == nil || errors.Is(err, redis.Nil) || errors.Is(err, context.Canceled) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	for _, prefix := range []string{"LOADING", "MASTERDOWN", "BUSY", "ERR max number of clients", "NOAUTH", "WRONGPASS"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}
