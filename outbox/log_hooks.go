package outbox

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// LogHooks returns hooks that log what an operator needs to know: each leadership
// won, lost and handed over, each loss of contact and return, how much a broken
// leadership may send twice, and each parked message with its cause. A failure that
// lasts is logged when it begins, when its error changes, and once a minute. Combine
// them with other hooks by Hooks.Tee.
func LogHooks(log *slog.Logger) Hooks {
	l := &eventLog{log: log}
	return Hooks{
		Leading:     l.leading,
		Stopped:     l.stopped,
		Waiting:     l.reachedLog,
		HandingOver: func(to Member) { log.Info("handing the outbox over", "to", to.ID, "leads", to.Leads) },
		Delivered:   func(int, time.Duration) { l.recovered() },
		Unsaved:     func(rows int) { log.Warn("leadership broke off: rows may be delivered twice", "at_most", rows) },
		Parked: func(p Parked) {
			log.Warn("message parked", "position", p.Position, "topic", p.Topic, "key", p.Key, "reason", p.Reason)
		},
		Retrying: l.retrying,
	}
}

// lastingInterval is how often an error that lasts is logged.
const lastingInterval = time.Minute

// eventLog knows whether the relay works, so that it logs a failure that lasts
// only now and then.
type eventLog struct {
	log *slog.Logger

	mu     sync.Mutex
	err    error     // nil while the relay works
	since  time.Time // when it began to fail
	logged time.Time // when err was last logged
}

func (l *eventLog) leading(epoch int64) {
	l.reachedLog()
	l.log.Info("relay leads", "epoch", epoch)
}

func (l *eventLog) stopped(epoch int64, err error) {
	if err == nil {
		l.log.Info("relay stopped leading", "epoch", epoch)
		return
	}
	l.log.Warn("relay lost its leadership", "epoch", epoch, "error", err)
}

// reachedLog ends a failure of the log. A failure of the broker goes on until it
// acknowledges something.
func (l *eventLog) reachedLog() {
	l.mu.Lock()
	broker := errors.Is(l.err, ErrPublish)
	l.mu.Unlock()
	if !broker {
		l.recovered()
	}
}

func (l *eventLog) recovered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		return
	}
	l.log.Info("relay works again", "after", time.Since(l.since).Round(time.Millisecond).String())
	l.err = nil
}

func (l *eventLog) retrying(err error, in time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	switch {
	case l.err == nil:
		l.since = now
	case l.err.Error() == err.Error() && now.Sub(l.logged) < lastingInterval:
		return
	}
	l.err, l.logged = err, now
	l.log.Warn("relay will retry", "error", err, "in", in.String())
}
