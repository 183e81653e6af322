package outbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
)

// RelayConfig configures a Relay. The zero value is usable.
type RelayConfig struct {
	// Name of the relay: its cursor and its lease. Relays of one name stand in
	// for each other; relays of different names each deliver everything.
	// 1 to 64 characters of [A-Za-z0-9._-]. Default "relay".
	Name string
	// BatchRows is the most rows of one read. Default 1,000.
	BatchRows int
	// BatchBytes is about the most payload bytes of one read. Default 4 MiB.
	BatchBytes int
	// WindowRows is the most rows read and not yet covered by the saved cursor:
	// the bound on duplicates after a crash. At least BatchRows. Default 10,000.
	WindowRows int
	// WindowBytes is about the most payload bytes held in memory. Default 32 MiB.
	WindowBytes int
	// CheckpointInterval is the least time between two saves of the cursor.
	// Default 20 ms; -1 saves as often as the database allows.
	CheckpointInterval time.Duration
	// PollMin and PollMax bound the pause between reads that found nothing: it
	// doubles from one to the other. A call of Wake ends it. Defaults 1 ms, 50 ms.
	PollMin, PollMax time.Duration
	// Doorbell, if it works, lets an idle relay read only every PollIdle, and be
	// woken in between. Defaults none, 3 s.
	Doorbell Doorbell
	PollIdle time.Duration
	// LeaseTTL is how long a relay that died keeps the others waiting. It is
	// renewed at less than half of it. Default 2 s, at least 200 ms.
	LeaseTTL time.Duration
	// DrainTimeout bounds a graceful stop: how long to wait for the broker to
	// acknowledge what is in flight. Default 10 s.
	DrainTimeout time.Duration
	// RetryMax caps the pause after an error, which doubles from 50 ms.
	// Default 2 s.
	RetryMax time.Duration
	// Lanes is how many calls of Publish run at once for a publisher that is not
	// a BatchPublisher; each lane has at most one message in flight. Default 64.
	Lanes int
	// Hooks tell of what happens. Default none.
	Hooks Hooks
}

func (c *RelayConfig) setDefaults() {
	def(&c.Name, "relay")
	def(&c.BatchRows, 1000)
	def(&c.BatchBytes, 4<<20)
	def(&c.WindowRows, max(10_000, c.BatchRows))
	def(&c.WindowBytes, 32<<20)
	def(&c.CheckpointInterval, 20*time.Millisecond)
	def(&c.PollMin, time.Millisecond)
	def(&c.PollMax, max(50*time.Millisecond, c.PollMin))
	def(&c.PollIdle, max(3*time.Second, c.PollMax))
	def(&c.LeaseTTL, 2*time.Second)
	def(&c.DrainTimeout, 10*time.Second)
	def(&c.RetryMax, 2*time.Second)
	def(&c.Lanes, 64)
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

var relayName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func (c *RelayConfig) validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(relayName.MatchString(c.Name), "Name: %q is not 1 to 64 characters of [A-Za-z0-9._-]", c.Name)
	need(c.BatchRows > 0, "BatchRows: must be positive")
	need(c.BatchBytes > 0, "BatchBytes: must be positive")
	need(c.WindowRows >= c.BatchRows, "WindowRows: %d is less than BatchRows %d", c.WindowRows, c.BatchRows)
	need(c.WindowBytes >= c.BatchBytes, "WindowBytes: %d is less than BatchBytes %d", c.WindowBytes, c.BatchBytes)
	need(c.PollMin > 0, "PollMin: must be positive")
	need(c.PollMax >= c.PollMin, "PollMax: %s is less than PollMin %s", c.PollMax, c.PollMin)
	need(c.PollIdle >= c.PollMax, "PollIdle: %s is less than PollMax %s", c.PollIdle, c.PollMax)
	need(c.LeaseTTL >= 200*time.Millisecond, "LeaseTTL: %s is less than 200ms", c.LeaseTTL)
	need(c.DrainTimeout > 0, "DrainTimeout: must be positive")
	need(c.RetryMax > 0, "RetryMax: must be positive")
	need(c.Lanes > 0, "Lanes: must be positive")
	return errors.Join(errs...)
}

// Relay carries the messages of a Log to a publisher. Of all relays of one name
// one leads and the others stand by. It promises at-least-once delivery, per key
// in commit order, no duplicate over a graceful stop, and at most WindowRows
// duplicates over a crash.
type Relay struct {
	log   Log
	pub   message.Publisher
	cfg   RelayConfig
	owner string
	wake  chan struct{}
	seat  *seat // nil outside of a fleet

	mu     sync.Mutex
	status Status
}

// NewRelay returns a relay from log to pub, which stays the caller's to close
// after Run has returned. It starts nothing.
func NewRelay(log Log, pub message.Publisher, cfg RelayConfig) (*Relay, error) {
	cfg.setDefaults()
	err := cfg.validate()
	if log == nil {
		err = errors.Join(err, errors.New("log: is nil"))
	}
	if pub == nil {
		err = errors.Join(err, errors.New("publisher: is nil"))
	}
	if err != nil {
		return nil, fmt.Errorf("outbox relay: %w", err)
	}
	return &Relay{log: log, pub: pub, cfg: cfg, owner: thisInstance(), wake: make(chan struct{}, 1)}, nil
}

// thisInstance makes a name that no other relay or fleet has had.
func thisInstance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d:%s", host, os.Getpid(), uuid.NewString()[:8])
}

// Wake makes the relay read now instead of at its next poll. It never blocks,
// and many calls cost one read.
func (r *Relay) Wake() { signal(r.wake) }

// Run stands by, leads when it gets the lease, and goes on over every error that
// time can heal, until ctx ends. Then it waits for what is in flight
// (DrainTimeout), saves the cursor, frees the lease and returns nil. It returns
// an error only for what a person must mend, such as an *UnsafeError of the log.
func (r *Relay) Run(ctx context.Context) error {
	pub, closeLanes := r.batchPublisher()
	defer closeLanes()
	retry := backoff{max: r.cfg.RetryMax}
	safe := false // the log has passed its guard once: from then on, only time can tell
	for ctx.Err() == nil {
		r.seat.await(ctx)
		led, err := r.lead(ctx, pub)
		if errors.Is(err, ErrUnsafeLog) && !safe && led == 0 {
			return err
		}
		safe = safe || led > 0 || errors.Is(err, ErrLeaseHeld)
		if led > r.cfg.LeaseTTL {
			retry.reset()
		}
		sleep(ctx, r.afterLeading(err, &retry))
	}
	return nil
}

// afterLeading reports err and returns how long to wait before the next try.
func (r *Relay) afterLeading(err error, retry *backoff) time.Duration {
	if err == nil {
		return 0
	}
	if errors.Is(err, ErrLeaseHeld) {
		r.note(func(s *Status) { s.Err = nil })
		if r.cfg.Hooks.Waiting != nil {
			r.cfg.Hooks.Waiting()
		}
		return r.cfg.LeaseTTL / 5
	}
	pause := retry.pause()
	r.note(func(s *Status) { s.Err = err })
	if h := r.cfg.Hooks.Retrying; h != nil {
		h(err, pause)
	}
	return pause
}

// batchPublisher returns the publisher as a BatchPublisher, and what ends the
// goroutines made for that.
func (r *Relay) batchPublisher() (BatchPublisher, func()) {
	if p, ok := r.pub.(BatchPublisher); ok {
		return p, func() {}
	}
	l := newLanes(r.pub, r.cfg.Lanes, r.cfg.RetryMax)
	return l, l.close
}

// backoff doubles its pauses from 50 ms up to a maximum.
type backoff struct{ next, max time.Duration }

func (b *backoff) pause() time.Duration {
	p := min(max(b.next, 50*time.Millisecond), b.max)
	b.next = 2 * p
	return p
}

func (b *backoff) reset() { b.next = 0 }

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
