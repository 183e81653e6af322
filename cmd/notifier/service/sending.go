package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

const (
	lanes       = 32               // messages of a partition that the sender has at work, one a recipient
	perAttempt  = 5 * time.Second  // for one request to the gateway
	perDelivery = 20 * time.Second // for waiting, sending and recording
	maxRequests = 256              // to the gateway at once
)

// Sending configures how notifications are sent.
type Sending struct {
	// Gateway is the address of the service that delivers notifications. Default
	// none: nothing is sent, and what is requested waits in the topic.
	Gateway string
	// Token is what the service shows the gateway. Default none.
	Token string
	// Group is the consumer group that sends. Default "sender".
	Group string
	// Retry says how often a notification is tried. Default 5 times, with waits of
	// 1, 2, 4 and 8 minutes.
	Retry notification.Policy
	// Resend says when failed notifications are looked for, and ResendAtLeast for how
	// long the other nodes then leave that alone; see schedule.Job. Defaults
	// "0 */5 * * * *" and "PT10S".
	Resend, ResendAtLeast string
	// ProbeEvery is how often an unavailable gateway is tried. Default 5 s.
	ProbeEvery time.Duration
}

func (c *Config) sendingDefaults() {
	def(&c.Sending.Group, "sender")
	def(&c.Sending.Resend, "0 */5 * * * *")
	def(&c.Sending.ResendAtLeast, "PT10S")
	def(&c.Sending.ProbeEvery, 5*time.Second)
	def(&c.AuditGroup, "audit")
}

func (c Config) validateSending() error {
	var errs []error
	if c.Sending.Gateway != "" {
		if _, err := gateway.New(gateway.Config{URL: c.Sending.Gateway}); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Sending.ProbeEvery < 0 || c.Sending.Retry.First < 0 || c.Sending.Retry.Attempts < 0 {
		errs = append(errs, errors.New("sending: times and counts must not be negative"))
	}
	if c.Group == c.Sending.Group || c.Group == c.AuditGroup || c.Sending.Group == c.AuditGroup {
		errs = append(errs, fmt.Errorf("groups: views (%s), sender (%s) and audit (%s) must differ", c.Group, c.Sending.Group, c.AuditGroup))
	}
	return errors.Join(errs...)
}

// buildSending wires the gateway and the use cases that hand notifications to it.
func (s *service) buildSending() (err error) {
	if s.cfg.Sending.Gateway == "" {
		s.log.Warn("no gateway: notifications are not sent")
		return nil
	}
	tracer := telemetry.Tracer{}
	s.gateway, err = gateway.New(gateway.Config{
		URL: s.cfg.Sending.Gateway, Token: s.cfg.Sending.Token, Timeout: perAttempt, Concurrency: maxRequests,
		BreakFor: s.cfg.Sending.ProbeEvery, Traceparent: tracer.Traceparent,
		BreakerChanged: func(from, to string) { s.log.Warn("breaker of the gateway", "from", from, "to", to) },
	})
	if err != nil {
		return err
	}
	s.sender, err = app.NewSender(s.uow, postgres.NewReader(s.db), s.gateway, app.SenderConfig{
		Retry: s.cfg.Sending.Retry, Timeout: perAttempt, Tracer: tracer,
	})
	return err
}

// consumeSending wires the group that sends. A gateway that is away says nothing
// about a message: its partition is paused, and tried again, however long it takes.
// What the gateway says about a message is recorded, and is no failure of it.
func (s *service) consumeSending() error {
	if s.sender == nil {
		return nil
	}
	sub, err := s.subscriber(s.cfg.Sending.Group, func(c *kafka.SubscriberConfig) { c.Concurrency = lanes })
	if err != nil {
		return err
	}
	done, err := s.inbox(s.cfg.Sending.Group)
	if err != nil {
		return err
	}
	breaker, err := consumer.NewBreaker(consumer.BreakerConfig{
		Pauser: sub, ProbeEvery: s.cfg.Sending.ProbeEvery, MaxHold: -1,
		Hooks: s.consumerHooks(),
	})
	if err != nil {
		return err
	}
	s.router.Handle("sender", s.cfg.Topic, sub, s.send(done), consumer.WithGroup(s.cfg.Sending.Group), consumer.WithTimeout(perDelivery),
		consumer.WithBreaker(breaker), consumer.WithRetry(consumer.Exponential(100*time.Millisecond, 2, 5*time.Second, math.MaxInt32, 0.2)))
	return nil
}

// send hands a notification to the gateway first, outside of any transaction, and
// then records the outcome together with the inbox's row and the event of it. A
// message that comes again is sent again, under the same idempotency key.
func (s *service) send(done *inbox.Inbox) message.NoPublishHandlerFunc {
	return consumer.Typed(s.decodeWith, func(ctx context.Context, d decoded) error {
		ctx = app.WithTrace(ctx, domain.Trace{CorrelationID: d.event.Trace.CorrelationID, CausationID: d.event.ID})
		attempt, err := s.sender.SendRequested(ctx, d.event)
		if err != nil || attempt.None() {
			return err
		}
		tell := func() {} // it was recorded before
		err = done.Handler(func(ctx context.Context, tx *sql.Tx, _ *message.Message) error {
			return s.uow.In(ctx, tx, func(ctx context.Context, _ app.Tx) error {
				recorded, err := s.sender.RecordAttempt(ctx, attempt)
				tell = func() { s.logAttempt(ctx, d.event.AggregateID, attempt, recorded) }
				return err
			})
		})(d.message)
		if err == nil {
			tell()
		}
		return err
	})
}

// logAttempt tells, under the trace of the request, what became of a first attempt.
func (s *service) logAttempt(ctx context.Context, id string, a app.Attempt, recorded bool) {
	switch {
	case !recorded:
		s.log.InfoContext(ctx, "somebody else was faster", "notification", id)
	case a.Err() != nil:
		s.log.InfoContext(ctx, "notification was not sent", "notification", id, "attempt", 1, "error", a.Err())
	default:
		s.log.InfoContext(ctx, "notification sent", "notification", id, "attempt", 1)
	}
}

// decoded is an event with the message it came in.
type decoded struct {
	message *message.Message
	event   domain.Recorded
}

func (s *service) decodeWith(m *message.Message) (decoded, error) {
	event, err := s.decode(m)
	return decoded{m, event}, err
}

// inbox makes the effects of a group once; it is pruned while the service works.
func (s *service) inbox(group string) (*inbox.Inbox, error) {
	i, err := inbox.New(s.db, group, inbox.Config{Committed: s.wake, Hooks: s.inboxHooks(group)})
	if err == nil {
		s.inboxes = append(s.inboxes, i)
	}
	return i, err
}
