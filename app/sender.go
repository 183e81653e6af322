package app

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// SenderConfig configures a Sender. The zero value is usable.
type SenderConfig struct {
	// Retry says how often a notification is tried. Default: the default of the
	// policy.
	Retry notification.Policy
	// Timeout bounds one attempt. Default 5 s.
	Timeout time.Duration
	// Batch is how many failed notifications are claimed at once. Default 100.
	Batch int
	// Parallel is how many of a batch are sent at the same time. Default 8.
	Parallel int
	// Lease is how long a claim lasts. It must leave time for a whole batch of
	// attempts that time out. Default 2 min.
	Lease time.Duration
	// Tracer goes on with the trace of a notification at each attempt. Default: no
	// traces.
	Tracer Tracer
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID draws the ids of events: UUIDs in text form. Default NewID.
	NewID func() string
}

// Sender is the use cases that hand notifications to the gateway. It is safe for
// concurrent use.
type Sender struct {
	uow     UnitOfWork
	reader  Reader
	gateway Gateway
	keep    keeper
	cfg     SenderConfig
}

// NewSender returns the use cases over the given ports, all of which are required.
func NewSender(uow UnitOfWork, reader Reader, gateway Gateway, cfg SenderConfig) (*Sender, error) {
	cfg = cfg.withDefaults()
	var v domain.Validation
	v.Check(uow != nil, "uow", "is nil")
	v.Check(reader != nil, "reader", "is nil")
	v.Check(gateway != nil, "gateway", "is nil")
	v.Check(cfg.Timeout > 0, "Timeout", "must be positive")
	v.Check(cfg.Batch > 0, "Batch", "must be positive")
	v.Check(cfg.Parallel > 0, "Parallel", "must be positive")
	if cfg.Batch > 0 && cfg.Parallel > 0 {
		rounds := time.Duration((cfg.Batch + cfg.Parallel - 1) / cfg.Parallel)
		v.Check(cfg.Lease > rounds*cfg.Timeout, "Lease", "must be more than Batch/Parallel times Timeout, which is "+(rounds*cfg.Timeout).String())
	}
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	return &Sender{uow: uow, reader: reader, gateway: gateway, keep: keeper{cfg.NewID, cfg.Retry, cfg.Tracer}, cfg: cfg}, nil
}

func (c SenderConfig) withDefaults() SenderConfig {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Batch == 0 {
		c.Batch = 100
	}
	if c.Parallel == 0 {
		c.Parallel = 8
	}
	if c.Lease == 0 {
		c.Lease = 2 * time.Minute
	}
	if c.Tracer == nil {
		c.Tracer = noTracer{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = NewID
	}
	return c
}

// IdempotencyKey is the key under which the attempts of one group are sent: the
// gateway delivers it once, however often it is sent.
func IdempotencyKey(id notification.ID, group int) string {
	return fmt.Sprintf("notification-%s-%d", id, group)
}

// attempt is one call of the gateway, bounded in time.
func (s *Sender) attempt(ctx context.Context, d Delivery) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return s.gateway.Send(ctx, d)
}
