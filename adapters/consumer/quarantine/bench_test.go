package quarantine_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/adapters/consumer/quarantine"
	"github.com/millrace-go/millrace/outbox/record"
	"github.com/millrace-go/millrace/test/harness"
)

func BenchmarkQuarantine_RecordOfAFreeKey(b *testing.B) {
	db := harness.NewDatabase(b)
	q, err := quarantine.New(db.DB, quarantine.Config{})
	if err != nil {
		b.Fatal(err)
	}
	pass := q.Middleware()(func(*message.Message) ([]*message.Message, error) { return nil, nil })
	rec := newRecord("a", 1)
	rec.ClaimEpoch = 1
	msg := message.NewMessageWithContext(record.With(b.Context(), rec), "1", nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pass(msg); err != nil {
			b.Fatal(err)
		}
	}
}
