package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/consumer/inbox"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/gateway"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

const (
	resendEvery = 250 * time.Millisecond
	lostAnswers = 0.1 // share of the requests that the gateway delivers without a word
	gatewayFail = 0.1 // share that it answers with an error
)

// retry is impatient, so that all is sent before the demonstration ends.
var retry = notification.Policy{First: 200 * time.Millisecond, Attempts: math.MaxInt32}

// sending is the group that hands the notifications of one channel to a gateway
// with faults, and the job that tries again what failed. The outcome of the other
// channels is told by the writers.
type sending struct {
	group  string
	fake   *gateway.FakeServer
	server *http.Server
	client *gateway.Gateway
	sender *app.Sender
	inbox  *inbox.Inbox
	load   *load
}

// sentBy is the channel whose notifications the group sends.
const sentBy = notification.SMS

func newSending(s *show, uow app.UnitOfWork, wake func()) (*sending, error) {
	d := &sending{group: "sender-" + s.run, fake: gateway.NewFakeServer(), load: s.load}
	d.fake.Fail(gateway.Faults{Latency: 5 * time.Millisecond, ErrorRate: gatewayFail, LostAnswers: lostAnswers})
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	d.server = &http.Server{Handler: d.fake, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = d.server.Serve(l) }() // until close
	if d.client, err = gateway.New(gateway.Config{URL: "http://" + l.Addr().String(), BreakFor: 200 * time.Millisecond}); err != nil {
		return d, err
	}
	if d.sender, err = app.NewSender(uow, postgres.NewReader(s.db), d.client, app.SenderConfig{Retry: retry}); err != nil {
		return d, err
	}
	d.inbox, err = inbox.New(s.db, d.group, inbox.Config{Committed: wake, Hooks: inbox.Hooks{
		Committed: func(c inbox.Commit) { s.load.committed.Add(int64(c.Applied)) }, // one event each
	}})
	return d, err
}

// consume wires the group.
func (d *sending) consume(s *show, router *consumer.Router, brokers kafka.Config, uow *postgres.UnitOfWork, translate *codec.Codec) error {
	sub, err := kafka.NewSubscriber(d.group, brokers, kafka.SubscriberConfig{Concurrency: 32})
	if err != nil {
		return err
	}
	router.Handle("sender", s.topic, sub, func(msg *message.Message) error {
		event, err := translate.Decode(msg.Metadata, msg.Payload)
		if err != nil {
			return fmt.Errorf("%w: %w", consumer.ErrDecode, err)
		}
		return d.handle(msg, event, uow)
	}, consumer.WithGroup(d.group), consumer.WithRetry(consumer.Exponential(50*time.Millisecond, 2, time.Second, math.MaxInt32, 0.2)))
	return nil
}

// handle sends first and then records the outcome with the row of the inbox.
func (d *sending) handle(msg *message.Message, event domain.Recorded, uow *postgres.UnitOfWork) error {
	if e, ok := event.Event.(notification.Requested); !ok || e.Channel != sentBy {
		return nil
	}
	attempt, err := d.sender.SendRequested(msg.Context(), event)
	if err != nil || attempt.None() {
		return err
	}
	return d.inbox.Handler(func(ctx context.Context, tx *sql.Tx, _ *message.Message) error {
		return uow.In(ctx, tx, func(ctx context.Context, _ app.Tx) error {
			_, err := d.sender.RecordAttempt(ctx, attempt)
			return err
		})
	})(msg)
}

// resend runs the job until ctx ends.
func (d *sending) resend(ctx context.Context) error {
	tick := time.NewTicker(resendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		done, err := d.sender.ResendFailedNotifications(ctx, app.ResendFailed{})
		d.load.committed.Add(int64(done.Sent + done.Failed))
		if err != nil && ctx.Err() == nil && !errors.Is(err, app.ErrUnavailable) {
			return err
		}
	}
}

func (d *sending) close() error {
	if d == nil {
		return nil
	}
	err := d.server.Close()
	if d.client != nil {
		err = errors.Join(err, d.client.Close())
	}
	return err
}

// Sends tells what became of the notifications that the service sent.
type Sends struct {
	Requested int `json:"requested"`
	Requests  int `json:"gateway_requests"` // those that failed included
	Twice     int `json:"sent_twice"`
	Unsent    int `json:"not_sent"`
}

// unsent counts the notifications that still have to be sent.
func (s *show) unsent(ctx context.Context) (n int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FROM notification WHERE channel = $1 AND status <> 'sent'`, sentBy).Scan(&n)
	return n, err
}

// checkSends compares what the gateway says it delivered with what the database
// says was sent: each notification once.
func (s *show) checkSends(ctx context.Context) (Sends, []string, error) {
	sends := Sends{Requests: len(s.pipe.sending.fake.Requests())}
	delivered := s.pipe.sending.fake.Deliveries()
	rows, err := s.db.QueryContext(ctx, `SELECT n.id, n.status, count(o.event_id) FROM notification n
		LEFT JOIN outbox o ON o.aggregate_id = n.id::text AND o.event_type = 'notification.sent'
		WHERE n.channel = $1 GROUP BY n.id, n.status`, sentBy)
	if err != nil {
		return sends, nil, fmt.Errorf("read what was sent: %w", err)
	}
	defer rows.Close()
	var wrong []string
	for rows.Next() {
		var id notification.ID
		var status string
		var events int
		if err := rows.Scan(&id, &status, &events); err != nil {
			return sends, wrong, fmt.Errorf("read what was sent: %w", err)
		}
		sends.Requested++
		switch times := delivered[id]; {
		case times > 1 || events > 1:
			sends.Twice++
			wrong = append(wrong, fmt.Sprintf("notification %s was delivered %d times and has %d events of it", id, times, events))
		case times == 0 || events == 0 || status != "sent":
			sends.Unsent++
			wrong = append(wrong, fmt.Sprintf("notification %s was delivered %d times and is %s", id, times, status))
		}
	}
	return sends, wrong, rows.Err()
}
