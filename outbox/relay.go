package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/millrace-go/millrace/outbox/internal/problems"
)

// RelayConfig configures a Relay. The zero value is usable.
type RelayConfig struct {
	// Name identifies the relay's cursor and lease. Relays of one name stand in for
	// each other; relays of different names each deliver every message.
	// 1 to 64 characters of [A-Za-z0-9._-]. Default "relay".
	Name string
	// BatchRows is the maximum number of rows of one read. Default 1,000.
	BatchRows int
	// BatchBytes is about the maximum number of payload bytes of one read.
	// Default 4 MiB.
	BatchBytes int
	// WindowRows is the maximum number of rows that are read and not yet covered by
	// the saved cursor: the bound on duplicates after a crash. At least BatchRows.
	// Default 10,000.
	WindowRows int
	// WindowBytes is about the maximum number of payload bytes held in memory.
	// Default 32 MiB.
	WindowBytes int
	// CheckpointInterval is the minimum time between two saves of the cursor.
	// -1 saves as often as the database allows. Default 20 ms.
	CheckpointInterval time.Duration
	// PollMin and PollMax bound the pause between reads that found nothing: it
	// doubles from one to the other. A call of Wake ends it. Default 1 ms and 50 ms.
	PollMin, PollMax time.Duration
	// Listener, while it works, lets an idle relay read only every PollIdle and be
	// woken in between. Default: none.
	Listener Listener
	// PollIdle is the pause of an idle relay whose Listener works. At least PollMax.
	// Default 3 s.
	PollIdle time.Duration
	// LeaseTTL is how long the other relays wait for one that died. The lease is
	// renewed after less than half of it. One that stops frees it, and another takes
	// it within a second. At least 200 ms. Default 2 s.
	LeaseTTL time.Duration
	// DrainTimeout bounds a graceful stop: how long to wait for the broker to
	// acknowledge what is in flight. Default 10 s.
	DrainTimeout time.Duration
	// RetryMax caps the pause after an error, which doubles from 50 ms. Default 2 s.
	RetryMax time.Duration
	// Lanes is how many calls of Publish run at once for a publisher that is not a
	// BatchPublisher. Each lane has at most one message in flight. Default 64.
	Lanes int
	// Hooks are called as things happen. Default: none.
	Hooks Hooks
}

func (c RelayConfig) withDefaults() RelayConfig {
	c.Name = cmp.Or(c.Name, "relay")
	c.BatchRows = cmp.Or(c.BatchRows, 1000)
	c.BatchBytes = cmp.Or(c.BatchBytes, 4<<20)
	c.WindowRows = cmp.Or(c.WindowRows, max(10_000, c.BatchRows))
	c.WindowBytes = cmp.Or(c.WindowBytes, 32<<20)
	c.CheckpointInterval = cmp.Or(c.CheckpointInterval, 20*time.Millisecond)
	c.PollMin = cmp.Or(c.PollMin, time.Millisecond)
	c.PollMax = cmp.Or(c.PollMax, max(50*time.Millisecond, c.PollMin))
	c.PollIdle = cmp.Or(c.PollIdle, max(3*time.Second, c.PollMax))
	c.LeaseTTL = cmp.Or(c.LeaseTTL, 2*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.RetryMax = cmp.Or(c.RetryMax, 2*time.Second)
	c.Lanes = cmp.Or(c.Lanes, 64)
	c.Hooks = c.Hooks.withDefaults()
	return c
}

var relayName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// nameRule is what relays and outboxes of a fleet are called.
const nameRule = "must be 1 to 64 characters of [A-Za-z0-9._-], is %q"

func (c *RelayConfig) validate() error {
	var p problems.List
	p.Unless(relayName.MatchString(c.Name), "Name", nameRule, c.Name)
	problems.Positive(&p, "BatchRows", c.BatchRows)
	problems.Positive(&p, "BatchBytes", c.BatchBytes)
	p.Unless(c.WindowRows >= c.BatchRows, "WindowRows", "must be at least BatchRows (%d), is %d", c.BatchRows, c.WindowRows)
	p.Unless(c.WindowBytes >= c.BatchBytes, "WindowBytes", "must be at least BatchBytes (%d), is %d", c.BatchBytes, c.WindowBytes)
	problems.Positive(&p, "PollMin", c.PollMin)
	p.Unless(c.PollMax >= c.PollMin, "PollMax", "must be at least PollMin (%s), is %s", c.PollMin, c.PollMax)
	p.Unless(c.PollIdle >= c.PollMax, "PollIdle", "must be at least PollMax (%s), is %s", c.PollMax, c.PollIdle)
	problems.AtLeast(&p, "LeaseTTL", c.LeaseTTL, 200*time.Millisecond)
	problems.Positive(&p, "DrainTimeout", c.DrainTimeout)
	problems.Positive(&p, "RetryMax", c.RetryMax)
	problems.Positive(&p, "Lanes", c.Lanes)
	return p.Err()
}

// Relay carries the messages of a Log to a publisher. Of all relays of one name one
// leads and the others stand by. It delivers at least once and in commit order per
// key, without duplicates after a graceful stop, and with at most WindowRows
// duplicates after a crash.
type Relay struct {
	log   Log
	pub   message.Publisher
	cfg   RelayConfig
	owner string
	wake  chan struct{}
	lease leasePolicy

	mu     sync.Mutex
	status Status
}

// NewRelay returns a relay from log to pub. It starts nothing. The caller closes pub
// after Run has returned.
func NewRelay(log Log, pub message.Publisher, cfg RelayConfig) (*Relay, error) {
	cfg = cfg.withDefaults()
	var p problems.List
	p.NotNil("log", log != nil)
	p.NotNil("publisher", pub != nil)
	p.AddAll(cfg.validate())
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("outbox relay: %w", err)
	}
	return &Relay{log: log, pub: pub, cfg: cfg, owner: thisInstance(), wake: make(chan struct{}, 1), lease: aloneOnLease{}}, nil
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

// Run stands by, leads when it gets the lease, and retries after every error that
// can pass, until ctx ends. Then it waits for what is in flight (DrainTimeout),
// saves the cursor, frees the lease and returns nil. It returns an error only for
// what an operator must fix, such as an *UnsafeError of the log.
func (r *Relay) Run(ctx context.Context) error {
	pub, closeLanes := r.batchPublisher()
	defer closeLanes()
	retry := backoff{max: r.cfg.RetryMax}
	safe := false // the log has passed its checks once: later refusals may be temporary
	for ctx.Err() == nil {
		r.lease.await(ctx)
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

// standbyWait is the longest time between two looks of a standby at the lease. A
// leader that stops frees it, and a standby takes it within this time, however long
// the lease is.
const standbyWait = time.Second

// afterLeading reports err and returns how long to wait before the next try.
func (r *Relay) afterLeading(err error, retry *backoff) time.Duration {
	if err == nil {
		return 0
	}
	if errors.Is(err, ErrLeaseHeld) {
		r.updateStatus(func(s *Status) { s.Err = nil })
		r.cfg.Hooks.Waiting()
		return min(r.cfg.LeaseTTL/5, standbyWait)
	}
	pause := retry.pause()
	r.updateStatus(func(s *Status) { s.Err = err })
	r.cfg.Hooks.Retrying(err, pause)
	return pause
}

// batchPublisher returns the publisher as a BatchPublisher, and a func that ends the
// goroutines that were started for it.
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
