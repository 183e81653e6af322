package pipeline_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/adapters/pipeline"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/test/harness"
)

// PlacedOrder is what the messages carry.
type PlacedOrder struct {
	ID string `json:"id"`
}

func TestMailer_MailsAboutEveryOrder(t *testing.T) {
	db, topic := harness.NewDatabase(t), harness.Topic(t, 6)
	p, err := pipeline.New(db.DB, harness.Brokers(t), pipeline.Config{
		Topics: []kafka.Topic{{Name: topic}}, // the topic exists: this adds its dead-letter topic
	})
	if err != nil {
		t.Fatal(err)
	}
	var mailed atomic.Value
	mailer := p.Group(harness.Group(t), pipeline.GroupConfig{}) // other tests use the cluster too
	pipeline.Handle(mailer, topic, consumer.JSON[PlacedOrder], func(_ context.Context, o PlacedOrder) error {
		mailed.Store(o.ID)
		return nil
	})
	ended := runService(t, p)

	err = p.InTx(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
		return p.Append(ctx, tx, outbox.Message{Topic: topic, Key: "17", Type: "order.placed", Payload: []byte(`{"id":"17"}`)})
	})
	if err != nil {
		t.Fatal(err)
	}
	harness.Await(t, 2*time.Minute, "a mail about order 17", func(context.Context) error {
		if ended.Err() != nil {
			t.Fatal("Run has returned: ", context.Cause(ended))
		}
		if id := mailed.Load(); id != "17" {
			return fmt.Errorf("mailed about %v", id)
		}
		return nil
	})
}

// runService runs p until the test ends, and then waits until it has stopped. The
// context that it returns ends when Run returns; its cause is Run's error.
func runService(t *testing.T, p *pipeline.Pipeline) context.Context {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended, end := context.WithCancelCause(context.Background())
	go func() { end(p.Run(ctx)) }()
	t.Cleanup(func() {
		stop()
		<-ended.Done()
		if err := context.Cause(ended); !errors.Is(err, context.Canceled) { // what a nil error becomes
			t.Error("Run: ", err)
		}
	})
	return ended
}
